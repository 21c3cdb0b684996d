//! Terms in error messages, as Elixir's `inspect/1` writes them.

use rustler::{MapIterator, Term, TermType, types::tuple::get_tuple};

use crate::list::cell;

/// A message is for reading: what is deeper or longer is cut. The depth also bounds the stack, as a
/// caller may pass a term of any depth.
const DEPTH: usize = 6;
const LENGTH: usize = 400;

/// `term` as one would type it in Elixir.
pub fn inspect(term: Term<'_>) -> String {
    let mut text = String::new();
    write(term, DEPTH, &mut text);
    text
}

fn write(term: Term<'_>, depth: usize, text: &mut String) {
    if depth == 0 || text.len() > LENGTH {
        text.push_str("...");
        return;
    }
    match term.get_type() {
        TermType::Atom => text.push_str(&atom(&term.atom_to_string().unwrap_or_default())),
        TermType::Integer => text.push_str(&integer(term)),
        TermType::Binary => match term.decode::<&str>() {
            Ok(found) if found.len() <= LENGTH => text.push_str(&format!("{found:?}")),
            _ => text.push_str("a binary"),
        },
        TermType::Tuple => {
            let terms = get_tuple(term).unwrap_or_default();
            write_all(
                "{",
                terms.into_iter().map(|term| (None, term)),
                "}",
                depth,
                text,
            );
        }
        TermType::List => write_list(term, depth, text),
        TermType::Map => {
            let pairs = MapIterator::new(term).into_iter().flatten();
            let pairs = pairs.map(|(key, value)| (Some(key), value));
            write_all("%{", pairs, "}", depth, text);
        }
        TermType::Ref => text.push_str("a reference"),
        TermType::Fun => text.push_str("a function"),
        TermType::Pid => text.push_str("a process"),
        _ => text.push_str(&format!("{term:?}")),
    }
}

/// Element by element: the list may be long, and need not be proper.
fn write_list(list: Term<'_>, depth: usize, text: &mut String) {
    text.push('[');
    let (mut rest, mut separator) = (list, "");
    while let Some((head, tail)) = cell(rest) {
        text.push_str(separator);
        if text.len() > LENGTH {
            text.push_str("...]");
            return;
        }
        write(head, depth - 1, text);
        (rest, separator) = (tail, ", ");
    }
    if !rest.is_empty_list() {
        text.push_str(" | ");
        write(rest, depth - 1, text);
    }
    text.push(']');
}

/// The elements of a collection, those of a map with their keys.
fn write_all<'a>(
    open: &str,
    terms: impl Iterator<Item = (Option<Term<'a>>, Term<'a>)>,
    close: &str,
    depth: usize,
    text: &mut String,
) {
    text.push_str(open);
    for (index, (key, term)) in terms.enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        if text.len() > LENGTH {
            text.push_str("...");
            break;
        }
        if let Some(key) = key {
            write(key, depth - 1, text);
            text.push_str(" => ");
        }
        write(term, depth - 1, text);
    }
    text.push_str(close);
}

fn atom(name: &str) -> String {
    match name {
        "nil" | "true" | "false" => name.to_owned(),
        _ => name
            .strip_prefix("Elixir.")
            .map_or_else(|| format!(":{name}"), str::to_owned),
    }
}

/// Writing out a number of a million digits would hold the scheduler.
fn integer(term: Term<'_>) -> String {
    match (term.decode::<i64>(), term.decode::<u64>()) {
        (Ok(number), _) => number.to_string(),
        (_, Ok(number)) => number.to_string(),
        _ => "an integer beyond 64 bits".to_owned(),
    }
}
