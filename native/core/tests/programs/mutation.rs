//! Files that differ from whole ones.

use serde_json::{Value, json};

/// Numbers that are the same each time: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }
}

/// A few changes of bytes: other ones, fewer, and more.
pub fn bytes(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            _ => {
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

/// A few changes of the values in a JSON document, which is one still.
pub fn json(whole: &Value, random: &mut Random) -> Vec<u8> {
    let mut document = whole.clone();
    for _ in 0..=random.below(3) {
        let other = part(whole, random).clone();
        let place = part_mut(&mut document, random);
        match (random.below(4), &mut *place) {
            (0, Value::Array(parts)) if !parts.is_empty() => {
                parts.remove(random.below(parts.len()));
            }
            (1, Value::Array(parts)) if !parts.is_empty() => {
                let copy = parts[random.below(parts.len())].clone();
                parts.insert(random.below(parts.len()), copy);
            }
            (0, Value::Object(fields)) if !fields.is_empty() => {
                let key = fields
                    .keys()
                    .nth(random.below(fields.len()))
                    .unwrap()
                    .clone();
                fields.remove(&key);
            }
            (2, _) => *place = other,
            _ => *place = value(place, random),
        }
    }
    serde_json::to_vec(&document).unwrap()
}

/// Another value in the place of one: near to it, or at some end.
fn value(place: &Value, random: &mut Random) -> Value {
    if let (Some(number), true) = (place.as_i64(), random.below(2) == 0) {
        return json!(number.wrapping_add(random.below(5) as i64 - 2));
    }
    let ends = [
        json!(0),
        json!(1),
        json!(-1),
        json!(1_000_000_000),
        json!(2_147_483_647),
        json!(4_294_967_296_u64),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e308),
        json!(0.5),
        json!(null),
        json!(true),
        json!(""),
        json!("u2"),
        json!("f64"),
        json!("c64"),
        json!("f8"),
        json!([]),
        json!({}),
        json!([1_000_000, 1_000]),
        json!([0]),
        json!([1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ];
    ends[random.below(ends.len())].clone()
}

fn part<'a>(value: &'a Value, random: &mut Random) -> &'a Value {
    let children: Vec<&Value> = match value {
        Value::Array(parts) => parts.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => return value,
    };
    if children.is_empty() || random.below(8) == 0 {
        return value;
    }
    part(children[random.below(children.len())], random)
}

fn part_mut<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let count = match value {
        Value::Array(parts) => parts.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if count == 0 || random.below(8) == 0 {
        return value;
    }
    let at = random.below(count);
    let child = match value {
        Value::Array(parts) => parts.get_mut(at),
        Value::Object(fields) => fields.values_mut().nth(at),
        _ => None,
    };
    part_mut(child.unwrap(), random)
}
