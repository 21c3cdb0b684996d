//! Steps as JSON has them: operations beside what decides which come next.
//!
//! serde would try one after the other, on a copy, and forget what was wrong with each.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, VariantAccess,
        Visitor, value::StringDeserializer,
    },
};

use super::{Clause, Program, Step};
use crate::Op;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cond {
    clauses: Vec<Clause>,
    last: Program,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct While {
    condition: Program,
    body: Program,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    number: usize,
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StepVisitor)
    }
}

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Step;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an operation, alone or with its attributes")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Step, E> {
        Op::deserialize(name.into_deserializer()).map(Step::Op)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Step, A::Error> {
        let Some(name) = map.next_key::<String>()? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        let step = match &name[..] {
            "cond" => {
                let Cond { clauses, last } = map.next_value()?;
                Step::Cond { clauses, last }
            }
            "while" => {
                let While { condition, body } = map.next_value()?;
                Step::While { condition, body }
            }
            "call" => {
                let Call { number } = map.next_value()?;
                Step::Call { number }
            }
            _ => {
                let operation = Operation {
                    name,
                    map: &mut map,
                };
                Step::Op(Op::deserialize(operation)?)
            }
        };
        match map.next_key::<String>()? {
            None => Ok(step),
            Some(more) => Err(A::Error::custom(format!(
                "expected one operation, got: {more} beside it"
            ))),
        }
    }
}

/// An operation's name, which is read, and its attributes, which are not.
struct Operation<'a, A> {
    name: String,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Operation<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Operation<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), A::Error> {
        let name: StringDeserializer<A::Error> = self.name.clone().into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Operation<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.map.next_value()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(Attributes(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(Attributes(visitor))
    }
}

/// Gives what comes next to a visitor that knows what it wants.
struct Attributes<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Attributes<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_any(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        serde_json::from_str::<Step>(json).unwrap_err().to_string()
    }

    #[test]
    fn steps_come_back() {
        let none = r#"{"inputs":[],"instructions":[],"outputs":[]}"#;
        for json in [
            r#""add""#.to_owned(),
            r#"{"sum":{"axes":[1],"keep_axes":true}}"#.to_owned(),
            r#"{"constant":{"value":[1.5,"nan"]}}"#.to_owned(),
            r#"{"checked":{"op":{"take":{"axis":0}},"of":["bounds"]}}"#.to_owned(),
            r#"{"call":{"number":3}}"#.to_owned(),
            format!(r#"{{"cond":{{"clauses":[],"last":{none}}}}}"#),
        ] {
            let step: Step = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&step).unwrap(), json);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(
            refused(r#""frobnicate""#).starts_with("unknown variant `frobnicate`, expected one of")
        );
        assert_eq!(
            refused(r#"{"sum":{"axes":[-1],"keep_axes":true}}"#),
            "invalid value: integer `-1`, expected usize at line 1 column 18"
        );
        assert_eq!(
            refused(r#"{"add":null,"sum":1}"#),
            "expected one operation, got: sum beside it at line 1 column 17"
        );
        assert_eq!(
            refused("{}"),
            "invalid length 0, expected an operation, alone or with its attributes at line 1 column 2"
        );
        assert_eq!(
            refused("3"),
            "invalid type: integer `3`, expected an operation, alone or with its attributes at line 1 column 1"
        );
        let body = r#"{"inputs":[],"instructions":[],"outputs":[4]}"#;
        assert_eq!(
            refused(&format!(r#"{{"cond":{{"clauses":[],"last":{body}}}}}"#)),
            "expected the outputs to be values below 0, got: 4 at line 1 column 75"
        );
    }
}
