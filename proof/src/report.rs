//! Runs a model and says what came of it.

use std::fmt::{Debug, Write as _};
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::order::Order;

/// More states than any model here has; one that has more is not fully checked, and fails.
const MOST: usize = 50_000_000;

/// A model that can be explored.
pub trait World:
    Model<
        State: Clone + Debug + Hash + PartialEq + Send + Sync,
        Action: Clone + Debug + PartialEq + Send + Sync,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<M> World for M where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// What the whole exploration of a model found.
#[derive(Debug, Clone)]
pub struct Explored {
    /// The model.
    pub model: &'static str,
    /// States generated, repeated ones included.
    pub states: usize,
    /// States that differ.
    pub unique: usize,
    /// Steps of the longest path.
    pub depth: usize,
    /// The properties: name, and whether it must hold always or be seen once.
    pub properties: Vec<(&'static str, bool)>,
}

/// A counterexample.
#[derive(Debug, Clone)]
pub struct Counterexample {
    /// The order that was broken.
    pub order: Order,
    /// The property that failed.
    pub property: &'static str,
    /// The steps, in words.
    pub steps: Vec<String>,
}

/// Explores a model to its end.
///
/// # Panics
/// Where a property does not hold (the trace is told), or the end was not reached.
pub fn explore<M: World>(model: M, name: &'static str) -> Explored {
    let properties = model.properties();
    let checker = model
        .clone()
        .checker()
        .threads(1)
        .target_state_count(MOST)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    for property in &properties {
        let seen = found.get(property.name);
        match property.expectation {
            Expectation::Sometimes => assert!(seen.is_some(), "{name}: never seen: {}", property.name),
            Expectation::Always | Expectation::Eventually => {
                if let Some(path) = seen {
                    let steps = words(&model, path.clone().into_actions());
                    panic!("{name}: does not hold: {}\n{}", property.name, steps.join("\n"));
                }
            }
        }
    }
    assert!(checker.is_done() && checker.state_count() < MOST, "{name}: not all states were seen");
    Explored {
        model: name,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        properties: properties.iter().map(|p| (p.name, p.expectation != Expectation::Sometimes)).collect(),
    }
}

/// Explores a model in which an order is broken, until a property fails.
///
/// # Panics
/// Where none fails: then nothing shows that the order matters.
pub fn refute<M: World>(model: M, order: Order) -> Counterexample {
    let checker = model
        .clone()
        .checker()
        .threads(1)
        .target_state_count(MOST)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    for property in model.properties().iter().filter(|p| p.expectation.discovery_is_failure()) {
        if let Some(path) = found.get(property.name) {
            let steps = words(&model, shortened(&model, property, path.clone().into_actions()));
            return Counterexample { order, property: property.name, steps };
        }
    }
    panic!(
        "without the order \"{}\" nothing failed in {} states",
        order.words(),
        checker.unique_state_count()
    );
}

/// Leaves out what the failure does not need.
fn shortened<M: World>(model: &M, property: &Property<M>, mut steps: Vec<M::Action>) -> Vec<M::Action> {
    let places = |steps: &[M::Action]| {
        let length = steps.len();
        (1..=3_usize).flat_map(move |many| (0..length.saturating_sub(many - 1)).map(move |at| (at, many)))
    };
    while let Some(shorter) = places(&steps).find_map(|(at, many)| {
        let mut without = steps.clone();
        without.drain(at..at + many);
        let length = fails_after(model, property, &without)?;
        without.truncate(length);
        Some(without)
    }) {
        steps = shorter;
    }
    steps
}

/// After how many of the steps the property fails; none where they can't be taken or it holds.
fn fails_after<M: World>(model: &M, property: &Property<M>, steps: &[M::Action]) -> Option<usize> {
    let mut state = model.init_states().into_iter().next()?;
    for (n, step) in steps.iter().enumerate() {
        let mut enabled = Vec::new();
        model.actions(&state, &mut enabled);
        if !enabled.contains(step) {
            return None;
        }
        state = model.next_state(&state, step.clone())?;
        if !(property.condition)(model, &state) {
            return Some(n + 1);
        }
    }
    None
}

fn words<M: World>(model: &M, actions: Vec<M::Action>) -> Vec<String> {
    actions.iter().map(|action| model.format_action(action)).collect()
}

/// The page of what was explored and what was refuted.
pub fn page(head: &str, explored: &[Explored], refuted: &[Counterexample]) -> String {
    let mut out = String::from(head);
    out.push_str("\n## What was explored\n\n");
    out.push_str("| model | states | of them different | longest path |\n| --- | --- | --- | --- |\n");
    for e in explored {
        let _ = writeln!(out, "| {} | {} | {} | {} |", e.model, e.states, e.unique, e.depth);
    }
    out.push_str("\n| model | always holds |\n| --- | --- |\n");
    for e in explored {
        for (name, _) in e.properties.iter().filter(|(_, always)| *always) {
            let _ = writeln!(out, "| {} | {name} |", e.model);
        }
    }
    out.push_str("\n| model | is seen, so that the above is not empty |\n| --- | --- |\n");
    for e in explored {
        for (name, _) in e.properties.iter().filter(|(_, always)| !always) {
            let _ = writeln!(out, "| {} | {name} |", e.model);
        }
    }
    out.push_str("\n## Each order, broken\n");
    for c in refuted {
        let _ = writeln!(out, "\n### {}\n", c.order.words());
        let _ = writeln!(out, "Broken: {}. Then this fails: *{}*.\n", c.order.broken(), c.property);
        for (n, step) in c.steps.iter().enumerate() {
            let _ = writeln!(out, "{}. {step}", n + 1);
        }
    }
    out
}
