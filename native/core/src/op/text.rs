//! An operation in messages.

use super::Op;

impl Op {
    /// Nx's name of the operation, such as `reduce_max`; a checked one has its own still.
    pub fn name(&self) -> String {
        let shown = format!("{:?}", self.plain());
        let variant = shown.split([' ', '{']).next().unwrap_or_default();
        let mut name = String::new();
        for letter in variant.chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// The attributes as text, or `none`; where a checked operation comes from is among them.
    pub fn attributes(&self) -> String {
        let shown = format!("{:?}", self.plain());
        let own = shown.split_once(" { ");
        let own = own.map(|(_, attributes)| attributes.trim_end_matches(" }").to_owned());
        let at = match self {
            Self::Checked { at: Some(at), .. } => Some(format!("at: {at}")),
            _ => None,
        };
        let all: Vec<_> = [own, at].into_iter().flatten().collect();
        if all.is_empty() {
            return "none".to_owned();
        }
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Assertion, Direction};

    #[test]
    fn names_are_what_serde_and_the_beam_see() {
        for op in [
            Op::Add,
            Op::IsNan,
            Op::Log1p,
            Op::CountLeadingZeros,
            Op::Iota { axis: None },
            Op::Sort {
                axis: 0,
                direction: Direction::Desc,
            },
        ] {
            let json = serde_json::to_value(&op).unwrap();
            let name = match &json {
                serde_json::Value::String(name) => name.clone(),
                other => other.as_object().unwrap().keys().next().unwrap().clone(),
            };
            assert_eq!(op.name(), name);
            assert_eq!(serde_json::from_value::<Op>(json).unwrap(), op);
        }
        assert_eq!(
            Op::Sum {
                axes: Some(vec![1]),
                keep_axes: true
            }
            .attributes(),
            "axes: Some([1]), keep_axes: true"
        );
        assert_eq!(Op::Add.attributes(), "none");
        let checked = |op, at: Option<&str>| Op::Checked {
            op: Box::new(op),
            of: vec![Assertion::Finite],
            at: at.map(str::to_owned),
        };
        let take = checked(Op::Take { axis: 1 }, Some("lib/a.ex:3"));
        assert_eq!(take.name(), "take");
        assert_eq!(take.attributes(), "axis: 1, at: lib/a.ex:3");
        assert_eq!(checked(Op::Add, None).attributes(), "none");
        assert_eq!(checked(Op::Add, Some("a:1")).attributes(), "at: a:1");
    }
}
