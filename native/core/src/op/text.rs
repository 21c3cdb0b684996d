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

    /// The attributes as text, or `none`.
    pub fn attributes(&self) -> String {
        let shown = format!("{:?}", self.plain());
        shown.split_once(" { ").map_or_else(
            || "none".to_owned(),
            |(_, attributes)| attributes.trim_end_matches(" }").to_owned(),
        )
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
        let checked = Op::Checked {
            op: Box::new(Op::Take { axis: 1 }),
            of: vec![Assertion::Bounds],
        };
        assert_eq!(checked.name(), "take");
        assert_eq!(checked.attributes(), "axis: 1");
    }
}
