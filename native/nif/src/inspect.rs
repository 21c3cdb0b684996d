//! Terms in error messages, as Elixir's `inspect/1` writes them.

use rustler::{Term, TermType, types::tuple::get_tuple};

/// Longer collections are cut, as a message is for reading.
const LIMIT: usize = 20;

/// `term` as one would type it in Elixir.
pub fn inspect(term: Term<'_>) -> String {
    match term.get_type() {
        TermType::Atom => atom(&term.atom_to_string().unwrap_or_default()),
        TermType::Binary => match term.decode::<&str>() {
            Ok(text) => format!("{text:?}"),
            Err(_) => "a binary".to_owned(),
        },
        TermType::Tuple => format!(
            "{{{}}}",
            list(get_tuple(term).unwrap_or_default().into_iter())
        ),
        TermType::List => match term.decode::<Vec<Term<'_>>>() {
            Ok(terms) => format!("[{}]", list(terms.into_iter())),
            Err(_) => "an improper list".to_owned(),
        },
        TermType::Map => {
            let pairs = rustler::MapIterator::new(term).into_iter().flatten();
            let pairs = pairs.map(|(key, value)| format!("{} => {}", inspect(key), inspect(value)));
            format!("%{{{}}}", pairs.take(LIMIT).collect::<Vec<_>>().join(", "))
        }
        TermType::Ref => "a reference".to_owned(),
        TermType::Fun => "a function".to_owned(),
        TermType::Pid => "a process".to_owned(),
        _ => format!("{term:?}"),
    }
}

fn atom(name: &str) -> String {
    match name {
        "nil" | "true" | "false" => name.to_owned(),
        _ => name
            .strip_prefix("Elixir.")
            .map_or_else(|| format!(":{name}"), str::to_owned),
    }
}

fn list<'a>(terms: impl Iterator<Item = Term<'a>>) -> String {
    let mut shown: Vec<_> = terms.take(LIMIT + 1).map(inspect).collect();
    if shown.len() > LIMIT {
        shown[LIMIT] = "...".to_owned();
    }
    shown.join(", ")
}
