//! Acceptors' schemas: what can be asked of them, in Cedar's words. Put together with Mayfly's own and looked over.
//!
//! A file declares namespaces of its own and speaks of nothing beyond them and `Mayfly::Workload` and `Mayfly::Request`.
//! Nobody gives an acceptor's entities at a request, only their names: so their types have no attributes, no tags and no
//! parents, and a policy can't rest on what is never there.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{EntityTypeName, EntityUid, Schema, SchemaFragment};
use serde_json::Value as Json;

use super::name;
use crate::source::{PolicyError, Source, general, without_comments};
use crate::words::SCHEMA;

#[cfg(test)]
mod tests;

const OURS: &str = "Mayfly";
const WORKLOAD: &str = "Mayfly::Workload";
const REQUEST: &str = "Mayfly::Request";

/// An action that a check can name.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) uid: EntityUid,
    /// The groups that it is in, directly or not.
    pub(crate) groups: Vec<EntityUid>,
    /// The types of resource that it applies to; of an enumerated one its entities.
    pub(crate) resources: Vec<(EntityTypeName, Option<BTreeSet<String>>)>,
}

/// The schema that policies are validated against, and what acceptors declare in it.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) schema: Schema,
    pub(crate) actions: Vec<Declared>,
    /// The acceptors' files as one.
    pub(crate) text: String,
}

/// Puts the files (name and text) together with Mayfly's own schema.
///
/// # Errors
/// Every mistake that can be found at once.
pub(crate) fn merge(files: &[(String, String)]) -> Result<Merged, Vec<PolicyError>> {
    let ours = || SchemaFragment::from_cedarschema_str(SCHEMA).map(|(f, _)| f).map_err(|e| vec![general(e)]);
    let (mut fragments, mut errors) = (vec![ours()?], Vec::new());
    let mut choices = BTreeMap::new();
    let mut declared: BTreeMap<String, String> = BTreeMap::new();
    for source in Source::all(files) {
        match read(&source, ours()?) {
            Ok((fragment, namespaces)) => {
                for (namespace, json) in namespaces {
                    let at = source.find(&[&format!("namespace {namespace}"), &namespace]);
                    if let Some(first) = declared.insert(namespace.clone(), source.name.to_string()) {
                        let message = format!("the namespace `{namespace}` is declared in {first} too");
                        errors.push(source.error(at, message, Some("declare it in one file".into())));
                    }
                    enumerated(&namespace, &json, &mut choices);
                }
                fragments.push(fragment);
            }
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        return Err(errors);
    }
    let schema = Schema::from_schema_fragments(fragments).map_err(|e| vec![general(e)])?;
    let actions = actions(&schema, &choices).map_err(|e| vec![general(e)])?;
    let text = files.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
    Ok(Merged { schema, actions, text })
}

type Namespaces = Vec<(String, Json)>;

/// Reads one file, which must be whole by itself.
fn read(source: &Source<'_>, ours: SchemaFragment) -> Result<(SchemaFragment, Namespaces), Vec<PolicyError>> {
    if let Some(error) = source.deceptive() {
        return Err(vec![error]);
    }
    let (fragment, _) =
        SchemaFragment::from_cedarschema_str(source.text).map_err(|e| vec![source.diagnosed(&e, 0)])?;
    let json = fragment.clone().to_json_value().map_err(|e| vec![source.diagnosed(&e, 0)])?;
    let namespaces: Namespaces = match json {
        Json::Object(map) => map.into_iter().collect(),
        _ => Vec::new(),
    };
    let mut errors = Vec::new();
    for (namespace, json) in &namespaces {
        if namespace.is_empty() {
            let help =
                "put everything into a namespace of the acceptor's: `namespace Payments { … }`".to_owned();
            errors.push(source.error(0, "declares something outside of any namespace", Some(help)));
        } else if namespace == OURS || namespace.starts_with("Mayfly::") {
            let at = source.find(&[&format!("namespace {namespace}"), namespace]);
            errors.push(source.error(at, format!("the namespace `{OURS}` is reserved"), None));
        } else {
            look_over(source, namespace, json, &mut errors);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let alone =
        Schema::from_schema_fragments([ours, fragment.clone()]).map_err(|e| vec![source.diagnosed(&e, 0)])?;
    for action in alone.actions().filter(|a| namespace_of(a) != OURS) {
        errors.extend(about(source, &alone, action));
    }
    if errors.is_empty() { Ok((fragment, namespaces)) } else { Err(errors) }
}

fn namespace_of(action: &EntityUid) -> String {
    action.type_name().namespace()
}

/// What a namespace declares, as it is written.
fn look_over(source: &Source<'_>, namespace: &str, json: &Json, errors: &mut Vec<PolicyError>) {
    let entries = |key: &str| json.get(key).and_then(Json::as_object).into_iter().flatten();
    for (kind, entity) in entries("entityTypes") {
        let at = source.find(&[&format!("entity {kind}"), kind]);
        let has = |key: &str| entity.get(key).is_some();
        let what = if has("shape") {
            "attributes"
        } else if has("tags") {
            "tags"
        } else if has("memberOfTypes") {
            "parents"
        } else {
            ""
        };
        if !what.is_empty() {
            let message = format!("`{namespace}::{kind}` has {what}, which nobody gives at a request");
            let help = format!("declare `entity {kind};`: a check names an entity by its type and id alone");
            errors.push(source.error(at, message, Some(help)));
        }
        if has("external") {
            errors.push(source.error(at, format!("`{namespace}::{kind}` is declared nowhere"), None));
        }
    }
    for (id, action) in entries("actions") {
        let at = source.find(&[&format!("\"{id}\""), &format!("action {id}"), id]);
        if let Err(why) = name::is_id(id) {
            errors.push(source.error(at, format!("no check can name this action: {why}"), None));
        }
        if action.get("attributes").is_some() || action.get("external").is_some() {
            errors.push(source.error(at, format!("the action `{id}` has attributes, or is external"), None));
        }
        let groups = action.get("memberOf").and_then(Json::as_array).into_iter().flatten();
        for group in groups.filter_map(|g| g.get("type").and_then(Json::as_str)) {
            if group != "Action" && group != format!("{namespace}::Action") {
                let message = format!("the action `{id}` is in a group of another namespace");
                errors.push(source.error(at, message, None));
            }
        }
        // A group is written as what applies to nothing.
        let applies_to_something =
            |a: &&Json| a.get("resourceTypes").and_then(Json::as_array).is_some_and(|all| !all.is_empty());
        let Some(applies) = action.get("appliesTo").filter(applies_to_something) else { continue };
        let context = applies.get("context");
        let context = context.and_then(|c| c.get("name").or_else(|| c.get("type"))).and_then(Json::as_str);
        if context != Some(REQUEST) {
            let message = format!("the context of the action `{id}` is not `{REQUEST}`");
            errors.push(source.error(at, message, Some(format!("write `context: {REQUEST}`"))));
        }
    }
}

/// What an action applies to, once its names are known.
fn about(source: &Source<'_>, schema: &Schema, action: &EntityUid) -> Vec<PolicyError> {
    let id = action.id().unescaped();
    let at = source.find(&[&format!("\"{id}\""), &format!("action {id}"), id]);
    let (principals, resources) = types(schema, action);
    if principals.is_empty() && resources.is_empty() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if principals.iter().any(|kind| kind.to_string() != WORKLOAD) {
        let message = format!("the principal of the action `{id}` is not `{WORKLOAD}` alone");
        errors.push(source.error(at, message, Some(format!("write `principal: {WORKLOAD}`"))));
    }
    if let Some(other) = resources.iter().find(|kind| kind.namespace() != namespace_of(action)) {
        let message = format!("the action `{id}` applies to `{other}`, which is not of its namespace");
        errors.push(source.error(at, message, None));
    }
    errors
}

fn types<'s>(
    schema: &'s Schema,
    action: &EntityUid,
) -> (BTreeSet<&'s EntityTypeName>, BTreeSet<&'s EntityTypeName>) {
    let principals = schema.principals_for_action(action).into_iter().flatten().collect();
    (principals, schema.resources_for_action(action).into_iter().flatten().collect())
}

/// The entities of enumerated types, by the type's name.
fn enumerated(namespace: &str, json: &Json, choices: &mut BTreeMap<String, BTreeSet<String>>) {
    let types = json.get("entityTypes").and_then(Json::as_object);
    for (kind, entity) in types.into_iter().flatten() {
        if let Some(all) = entity.get("enum").and_then(Json::as_array) {
            let all = all.iter().filter_map(Json::as_str).map(str::to_owned).collect();
            choices.insert(format!("{namespace}::{kind}"), all);
        }
    }
}

/// The acceptors' actions that apply to something; what applies to nothing is a group.
fn actions(
    schema: &Schema,
    choices: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<Declared>, Box<cedar_policy::entities_errors::EntitiesError>> {
    let entities = schema.action_entities()?;
    let mut all = Vec::new();
    for uid in schema.actions().filter(|a| namespace_of(a) != OURS) {
        let (_, resources) = types(schema, uid);
        if resources.is_empty() {
            continue;
        }
        let resources =
            resources.into_iter().map(|kind| (kind.clone(), choices.get(&kind.to_string()).cloned()));
        let groups = entities.ancestors(uid).into_iter().flatten().cloned().collect();
        all.push(Declared { uid: uid.clone(), groups, resources: resources.collect() });
    }
    all.sort_by_key(|action| action.uid.to_string());
    Ok(all)
}

impl Source<'_> {
    /// Where the first of these texts stands that stands anywhere outside of comments; else the beginning.
    fn find(&self, texts: &[&str]) -> usize {
        let searched = without_comments(self.text);
        texts.iter().find_map(|text| searched.find(text)).unwrap_or_default()
    }
}
