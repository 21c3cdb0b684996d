//! Types beside what `Nx.Type` says of them. `Emily.Golden.Types` in the recorder says what each
//! field means.

use std::{collections::BTreeMap, fs};

use emily_core::{Kind, Type};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "type")]
    ty: Type,
    kind: String,
    bits: u64,
    to_floating: Type,
    to_real: Type,
    to_aggregate: Type,
    merge: BTreeMap<String, String>,
}

fn table() -> Vec<Row> {
    let path = crate::case::folder().join("types.json");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.collect()
}

#[test]
fn types_are_what_nx_says() {
    let table = table();
    assert_eq!(table.len(), Type::ALL.len());
    for row in table {
        let ty = row.ty;
        assert_eq!(ty.nx(), (&*row.kind, row.bits));
        assert_eq!(Type::from_nx(&row.kind, row.bits), Some(ty));
        assert_eq!(json!(ty), ty.to_string());
        assert_eq!(ty.to_floating(), row.to_floating, "{ty}");
        assert_eq!(ty.to_real(), row.to_real, "{ty}");
        assert_eq!(ty.to_aggregate(), row.to_aggregate, "{ty}");
        assert_eq!(row.merge.len(), Type::ALL.len());
        for other in Type::ALL {
            let merged = ty.merge(other);
            let name = merged.map_or_else(|| "c128".to_owned(), |merged| merged.to_string());
            assert_eq!(name, row.merge[&other.to_string()], "{ty} with {other}");
        }
    }
}

#[test]
fn carriers_hold_all_numbers_of_a_type() {
    for ty in Type::ALL {
        let carrier = ty.carrier();
        assert_eq!(carrier.kind(), ty.kind(), "{ty}");
        assert_eq!(ty.is_narrow(), carrier != ty, "{ty}");
        assert!(!carrier.is_narrow(), "{ty}");
        assert_eq!(carrier.merge(ty), Some(carrier), "{ty}");
        assert_eq!(ty.is_inexact(), ty.kind() == Kind::Float || ty == Type::C64);
    }
}
