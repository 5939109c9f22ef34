use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// Every command, by its words.
fn walk(command: &clap::Command, path: String, visit: &mut impl FnMut(&str, &clap::Command)) {
    visit(&path, command);
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        walk(sub, format!("{path} {}", sub.get_name()), visit);
    }
}

#[test]
fn every_command_and_argument_says_what_it_is() {
    walk(&Cli::command(), "mayfly".into(), &mut |path, command| {
        assert!(command.get_about().is_some(), "{path} has no help");
        for arg in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
            assert!(arg.get_help().is_some(), "{path} {} has no help", arg.get_id());
        }
    });
}

#[test]
fn no_argument_takes_a_secret() {
    walk(&Cli::command(), "mayfly".into(), &mut |path, command| {
        for arg in command.get_arguments() {
            let name = arg.get_id().as_str();
            assert!(!["token", "password", "secret", "key", "passphrase"].contains(&name), "{path} {name}");
        }
    });
}

#[test]
fn usage_errors_have_exit_code_two() {
    for line in ["mayfly", "mayfly nope", "mayfly mint token", "mayfly check x", "mayfly lease show 1"] {
        let refused = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
        assert_eq!(refused.exit_code(), 2, "{line}");
    }
}

#[test]
fn lengths_are_whole_numbers_with_a_unit() {
    assert_eq!(Duration::from("90s".parse::<Length>().unwrap()), Duration::from_secs(90));
    for bad in ["", "5", "-5m", "0s", "1.5h", "999999999d"] {
        assert!(bad.parse::<Length>().is_err(), "{bad}");
    }
}

#[test]
fn an_id_may_begin_with_a_hyphen() {
    let id = "-lzAT-OWJnJ9HdhPAI5Fg0-Hx9s1Rw0wSmTtQkhLgls";
    for words in [
        ["ca", "revoke", id, "--yes", "--reason", "drill"].as_slice(),
        &["ca", "revoke", "--yes", "--reason", "drill", id],
        &["key", "revoke", id, "--yes", "--reason", "drill"],
        &["ca", "rotate", "--retire", "--id", id],
    ] {
        let parsed = Cli::try_parse_from(["mayfly"].iter().chain(words));
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
    }
}
