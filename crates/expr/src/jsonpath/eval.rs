//! What a path finds in a document; where it errs and where it finds nothing is as in Jayway's JsonPath.

use super::path::{Path, Step, is_definite};
use super::value::Json;
use std::borrow::Cow;

/// What is found on the way.
type Found<'a> = Vec<Cow<'a, Json>>;

/// The path leads nowhere; says where.
type Missing = String;

struct Walk<'p> {
    steps: &'p [Step],
    lax: bool,
}

impl Path {
    /// What the path finds in `doc`: for a path to one value that value or nothing, else the list of all.
    ///
    /// # Errors
    /// A strict path that leads nowhere, with the reason.
    pub fn read<'a>(&self, doc: &'a Json) -> Result<Option<Cow<'a, Json>>, String> {
        let mut found = vec![];
        Walk { steps: &self.steps, lax: self.lax }.at(0, doc, doc, &mut found)?;
        if !self.is_definite() {
            return Ok(Some(Cow::Owned(Json::List(found.into_iter().map(Cow::into_owned).collect()))));
        }
        match found.pop() {
            Some(value) => Ok(Some(value)),
            None if self.lax => Ok(None),
            None => Err("the path finds nothing".to_string()),
        }
    }
}

/// The values that `steps` find, nothing if they lead nowhere.
pub(super) fn find<'a>(steps: &[Step], from: &'a Json, root: &'a Json) -> Found<'a> {
    let mut found = vec![];
    match (Walk { steps, lax: true }).at(0, from, root, &mut found) {
        Ok(()) => found,
        Err(_) => vec![],
    }
}

impl Walk<'_> {
    /// Whether what precedes step `at` leads to one value.
    fn definite_before(&self, at: usize) -> bool {
        self.steps.get(..at).is_some_and(|before| {
            is_definite(before) && before.iter().all(|s| !matches!(s, Step::Members(names) if names.len() > 1))
        })
    }

    /// Nothing is there: an error if exactly one value was asked for.
    fn nothing(&self, at: usize, what: impl FnOnce() -> String) -> Result<(), Missing> {
        if self.lax || !self.definite_before(at) { Ok(()) } else { Err(what()) }
    }

    fn at<'a>(&self, at: usize, here: &'a Json, root: &'a Json, found: &mut Found<'a>) -> Result<(), Missing> {
        let Some(step) = self.steps.get(at) else {
            found.push(Cow::Borrowed(here));
            return Ok(());
        };
        let is_last = at + 1 == self.steps.len();
        match step {
            Step::Members(names) => {
                if !matches!(here, Json::Object(_)) {
                    return self.nothing(at, || format!("there is no object to read '{}' of", names.join("', '")));
                }
                if names.len() > 1 && is_last {
                    let members = names.iter().filter_map(|n| Some((n.clone(), here.member(n)?.clone())));
                    found.push(Cow::Owned(Json::Object(members.collect())));
                    return Ok(());
                }
                for name in names {
                    match here.member(name) {
                        Some(value) => self.at(at + 1, value, root, found)?,
                        None if is_last || names.len() > 1 => {}
                        None => self.nothing(at, || format!("there is no '{name}'"))?,
                    }
                }
                Ok(())
            }
            Step::Items(_) | Step::Slice(..) => {
                let Json::List(items) = here else {
                    return self.nothing(at, || "there is no array to read an element of".to_string());
                };
                let n = items.len() as i64;
                let places: Vec<i64> = match step {
                    Step::Items(places) => places.iter().map(|i| if *i < 0 { n + i } else { *i }).collect(),
                    Step::Slice(from, to) => {
                        let place = |i: i64| if i < 0 { (n + i).max(0) } else { i.min(n) };
                        (place(from.unwrap_or(0))..place(to.unwrap_or(n))).collect()
                    }
                    _ => vec![],
                };
                for place in places {
                    if let Some(item) = usize::try_from(place).ok().and_then(|i| items.get(i)) {
                        self.at(at + 1, item, root, found)?;
                    }
                }
                Ok(())
            }
            Step::Wildcard => {
                for child in children(here) {
                    // A branch that leads nowhere doesn't hide the others.
                    let _ = self.at(at + 1, child, root, found);
                }
                Ok(())
            }
            Step::Scan => self.scan(at + 1, here, root, found),
            Step::Filter(filter) => match here {
                Json::Object(_) if filter.holds(here, root) => self.at(at + 1, here, root, found),
                Json::List(items) => {
                    for item in items {
                        if filter.holds(item, root) {
                            self.at(at + 1, item, root, found)?;
                        }
                    }
                    Ok(())
                }
                Json::Object(_) => Ok(()),
                _ => self.nothing(at, || "a filter stands before a scalar".to_string()),
            },
            Step::Function(name) => {
                if let Some(value) = function(name, here) {
                    found.push(Cow::Owned(value));
                }
                Ok(())
            }
        }
    }

    fn scan<'a>(&self, at: usize, here: &'a Json, root: &'a Json, found: &mut Found<'a>) -> Result<(), Missing> {
        let fits = match (self.steps.get(at), here) {
            (Some(Step::Members(names)), Json::Object(_)) => {
                names.len() > 1 || names.iter().all(|n| here.member(n).is_some())
            }
            (Some(Step::Items(_) | Step::Slice(..)), Json::List(_)) => true,
            (Some(Step::Wildcard | Step::Function(_)), _) => true,
            (Some(Step::Filter(_)), Json::List(_)) => true,
            _ => false,
        };
        if fits {
            self.at(at, here, root, found)?;
        }
        for child in children(here) {
            self.scan(at, child, root, found)?;
        }
        Ok(())
    }
}

fn children(value: &Json) -> Box<dyn Iterator<Item = &Json> + '_> {
    match value {
        Json::List(items) => Box::new(items.iter()),
        Json::Object(members) => Box::new(members.iter().map(|(_, v)| v)),
        _ => Box::new(std::iter::empty()),
    }
}

fn function(name: &str, of: &Json) -> Option<Json> {
    if matches!(name, "length" | "size") {
        return match of {
            Json::List(items) => Some(Json::Int(items.len().to_string())),
            Json::Object(members) => Some(Json::Int(members.len().to_string())),
            _ => None,
        };
    }
    if let ("keys", Json::Object(members)) = (name, of) {
        return Some(Json::List(members.iter().map(|(k, _)| Json::Text(k.clone())).collect()));
    }
    let Json::List(items) = of else { return None };
    let numbers: Vec<f64> = items
        .iter()
        .filter_map(|item| match item {
            Json::Int(n) | Json::Decimal(n) => n.parse().ok(),
            _ => None,
        })
        .collect();
    if numbers.is_empty() {
        return None;
    }
    let sum: f64 = numbers.iter().sum();
    let value = match name {
        "min" => numbers.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "sum" => sum,
        "avg" => sum / numbers.len() as f64,
        _ => return None,
    };
    Some(Json::Decimal(crate::print::double_text(value)))
}
