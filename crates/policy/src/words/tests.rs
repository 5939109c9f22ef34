use super::*;
use crate::authorized::OperatorAction;
use crate::facts::WorkloadAction;
use crate::fixture::words;

#[test]
fn the_schema_has_the_actions_that_the_code_has() {
    let words = words();
    let mut of_code: Vec<String> = WorkloadAction::ALL
        .iter()
        .map(|a| a.as_str())
        .chain(OperatorAction::ALL.iter().map(|a| a.as_str()))
        .chain([crate::follow::FOLLOW])
        .map(|a| words.action(a).to_string())
        .collect();
    let mut of_schema: Vec<String> = words.schema.actions().map(ToString::to_string).collect();
    of_code.sort();
    of_schema.sort();
    assert_eq!(of_code, of_schema);
}

#[test]
fn the_data_that_is_made_is_of_the_schema() {
    let words = words();
    let facts = crate::fixture::job();
    let who = Who::from(&facts);
    let profile = crate::fixture::profile("payments-deploy", |_| ());
    let workload = words.workload_entity(&who).unwrap();
    let entities = [workload.clone(), words.profile_entity(&profile).unwrap()];
    Entities::from_entities(entities, Some(&words.schema)).unwrap();
    let context = words
        .workload_context(&who.proven, "a:b", 300, &profile.token().unwrap().scopes, "https://x")
        .unwrap();
    let action = words.action("mint");
    let resource = words.profile_uid(&profile);
    Request::new(workload.uid(), action, resource, context, Some(&words.schema)).unwrap();

    let dana = words.operator_entity(&"dana".parse().unwrap(), ["oncall".parse().unwrap()].iter());
    let context = words.staff_context(&who.proven).unwrap();
    let resource = uid(&words.trust_domain, "acme.internal");
    for action in OperatorAction::ALL {
        let on = if action == OperatorAction::Join { workload.uid() } else { resource.clone() };
        let action = words.action(action.as_str());
        Request::new(dana.uid(), action, on, context.clone(), Some(&words.schema)).unwrap();
    }
    Entities::from_entities([dana], Some(&words.schema)).unwrap();
}

#[test]
fn moments_are_cedars() {
    assert_eq!(datetime(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
    assert_eq!(datetime(UnixMillis(1_767_225_600_001)), "2026-01-01T00:00:00.001Z");
    assert_eq!(datetime(UnixMillis(u64::MAX)), "9999-12-31T23:59:59.999Z");
}
