//! What the operations mean, in f64 and one step after another.

use emily_core::ActivationFunction;

use crate::numbers::Numbers;

fn by_row(x: &Numbers, mut f: impl FnMut(usize, &[f64]) -> Vec<f64>) -> Numbers {
    let rows = x.rows().enumerate().flat_map(|(at, row)| f(at, row));
    Numbers::new(&x.dims, rows.collect())
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

pub fn layer_norm(x: &Numbers, gamma: &Numbers, beta: &Numbers, epsilon: f64) -> Numbers {
    by_row(x, |_, row| {
        let center = mean(row.iter().copied());
        let variance = mean(row.iter().map(|x| (x - center).powi(2)));
        let normal = row
            .iter()
            .map(|x| (x - center) / (variance + epsilon).sqrt());
        let scaled = normal.zip(&gamma.values).map(|(x, gamma)| x * gamma);
        scaled.zip(&beta.values).map(|(x, beta)| x + beta).collect()
    })
}

pub fn rms_norm(x: &Numbers, gamma: Option<&Numbers>, epsilon: f64) -> Numbers {
    let width = x.width();
    by_row(x, |at, row| {
        let scale = (mean(row.iter().map(|x| x * x)) + epsilon).sqrt();
        let gamma = |place: usize| {
            gamma.map_or(1.0, |gamma| {
                gamma.values[(at * width + place) % gamma.values.len()]
            })
        };
        let scaled = row.iter().enumerate();
        scaled.map(|(place, x)| x / scale * gamma(place)).collect()
    })
}

pub fn softmax(x: &Numbers) -> Numbers {
    by_row(x, |_, row| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = row.iter().map(|x| (x - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    })
}

pub fn rotary(x: &Numbers, cosines: &Numbers, sines: &Numbers) -> Numbers {
    let (width, half) = (x.width(), x.width() / 2);
    by_row(x, |at, row| {
        let of = |table: &Numbers, place| table.broadcast_at(&x.dims, at * width + place);
        let turned = |place: usize| match place {
            place if place < half => -row[place + half],
            place => row[place - half],
        };
        let places = 0..width;
        places
            .map(|place| row[place] * of(cosines, place) + turned(place) * of(sines, place))
            .collect()
    })
}

pub fn activation(function: ActivationFunction, x: &Numbers, factor: Option<&Numbers>) -> Numbers {
    let of = |x: f64| match function {
        ActivationFunction::Silu => x / (1.0 + (-x).exp()),
        ActivationFunction::Gelu => x * normal_share(x),
        ActivationFunction::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x / (1.0 + (-2.0 * inner).exp())
        }
    };
    let factor = |at: usize| factor.map_or(1.0, |factor| factor.values[at]);
    let values = x.values.iter().enumerate();
    Numbers::new(&x.dims, values.map(|(at, &x)| of(x) * factor(at)).collect())
}

/// The share of the standard normal distribution below `x`: by its series around 0, and by its continued
/// fraction where that would cancel.
fn normal_share(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() > 3.0 {
        let fraction = (1..200)
            .rev()
            .fold(x.abs(), |rest, k| x.abs() + f64::from(k) / rest);
        let tail = if density == 0.0 {
            0.0
        } else {
            density / fraction
        };
        return if x > 0.0 { 1.0 - tail } else { tail };
    }
    let (mut term, mut sum) = (x, x);
    for k in 1..40 {
        term *= x * x / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + density * sum
}

/// A mask of `bytes` has zeros where not to look; else it is added.
pub fn attention(
    [query, key, value]: [&Numbers; 3],
    mask: Option<(&Numbers, bool)>,
    sinks: Option<&Numbers>,
    scale: f64,
) -> Numbers {
    let &[batch, heads, positions, features] = &query.dims[..] else {
        panic!("four axes");
    };
    let (key_heads, seen, width) = (key.dims[1], key.dims[2], value.dims[3]);
    let mut out = Vec::new();
    for at in 0..batch * heads * positions {
        let (b, h) = (at / positions / heads, at / positions % heads);
        let group = b * key_heads + h / (heads / key_heads);
        let query = &query.values[at * features..][..features];
        let score = |s: usize| {
            let key = &key.values[(group * seen + s) * features..][..features];
            let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
            let scores = [batch, heads, positions, seen];
            match mask.map(|(mask, bytes)| (mask.broadcast_at(&scores, at * seen + s), bytes)) {
                None => dot * scale,
                Some((mask, false)) => dot * scale + mask,
                Some((0.0, true)) => f64::from(f32::MIN),
                Some((_, true)) => dot * scale,
            }
        };
        let sink = sinks.map(|sinks| sinks.values[h]);
        let scores: Vec<f64> = (0..seen).map(score).chain(sink).collect();
        let weights = softmax(&Numbers::new(&[scores.len()], scores)).values;
        out.extend((0..width).map(|place| {
            let value = |s: usize| value.values[(group * seen + s) * width + place];
            (0..seen).map(|s| weights[s] * value(s)).sum::<f64>()
        }));
    }
    Numbers::new(&[batch, heads, positions, width], out)
}

/// Of matrices, and of batches of them.
pub fn product(a: &Numbers, b: &Numbers, c: Option<&Numbers>) -> Numbers {
    let (depth, columns) = (a.width(), b.width());
    let rows = a.dims[a.dims.len() - 2];
    let dims = [&a.dims[..a.dims.len() - 1], &[columns]].concat();
    let value = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        let left = &a.values[row * depth..][..depth];
        let right = |k: usize| b.values[(row / rows * depth + k) * columns + column];
        let sum: f64 = left.iter().enumerate().map(|(k, x)| x * right(k)).sum();
        sum + c.map_or(0.0, |c| c.broadcast_at(&dims, at))
    };
    Numbers::new(&dims, (0..dims.iter().product()).map(value).collect())
}
