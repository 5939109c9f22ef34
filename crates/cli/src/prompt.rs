//! Questions to a person. They are asked on a terminal only; a program must say everything beforehand.

use std::io::IsTerminal as _;

use dialoguer::{Confirm, Input, Select};
use mayfly_client::Failure;
use mayfly_domain::{Reason, TaskReason};

/// Whether a person can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn unanswered(e: &dialoguer::Error) -> Failure {
    Failure::of(Reason::InputInvalid).fact("problem", e.to_string())
}

/// The reason that was given, or the one that the person gives now.
pub(crate) fn reason(given: Option<TaskReason>) -> Result<TaskReason, Failure> {
    match given {
        Some(reason) => Ok(reason),
        None if can_ask() => {
            let text: String = Input::new()
                .with_prompt("Reason")
                .validate_with(|text: &String| TaskReason::parse(text).map(drop))
                .interact_text()
                .map_err(|e| unanswered(&e))?;
            Ok(TaskReason::parse(&text)?)
        }
        None => Err(Failure::of(Reason::InputInvalid)
            .fact("problem", "a reason is required")
            .next("add --reason \"why\"; it goes to the audit record")),
    }
}

/// Whether new mints are to be refused too.
pub(crate) fn block(what: &str) -> Result<bool, Failure> {
    let items = ["end what is live; new evidence may mint again", "end what is live and block new mints"];
    let chosen = Select::new()
        .with_prompt(format!("Revoke {what}"))
        .items(items)
        .default(0)
        .interact()
        .map_err(|e| unanswered(&e))?;
    Ok(chosen == 1)
}

/// Whether that is really meant; no is the default.
fn meant(question: &str) -> Result<bool, Failure> {
    Confirm::new().with_prompt(question).default(false).interact().map_err(|e| unanswered(&e))
}

/// Asks a person whether that is really meant, unless `yes` was said already; a program has said it by calling.
///
/// # Errors
/// `CONFIRMATION_NEEDED` where the person does not mean it.
pub(crate) fn confirmed(question: &str, yes: bool) -> Result<(), Failure> {
    if !yes && can_ask() && !meant(question)? {
        return Err(Failure::of(Reason::ConfirmationNeeded)
            .fact("problem", "it was not confirmed")
            .next("answer yes, or add --yes"));
    }
    Ok(())
}
