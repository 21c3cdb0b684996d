//! Attention against f64.

use emily_core::{Device, Op, Stream, Tensor, Type};

use crate::{
    cases::{LAYOUTS, Layout},
    numbers::{Numbers, TYPES, apply, assert_near},
    on_each_device, oracle,
};

/// Batch, heads, heads of the key, positions, positions of the key, features, features of the value.
type Sizes = [usize; 7];

const SIZES: [Sizes; 9] = [
    [1, 1, 1, 1, 1, 1, 1],
    [2, 3, 3, 1, 7, 5, 3],
    [1, 16, 8, 1, 33, 128, 128],
    [1, 4, 2, 3, 9, 8, 8],
    [2, 2, 1, 13, 13, 17, 9],
    [1, 12, 12, 16, 16, 64, 64],
    [1, 6, 3, 50, 70, 24, 40],
    [1, 1, 1, 50, 300, 8, 8],
    [2, 1, 1, 129, 1, 4, 33],
];

const SCALE: f64 = 0.25;

const PLAIN: Op = Op::Attention {
    scale: SCALE,
    sinks: false,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum MaskKind {
    Bytes,
    Added(Type),
}

struct Attention {
    ty: Type,
    inputs: [Numbers; 3],
    mask: Option<(Numbers, MaskKind)>,
    sinks: Option<(Numbers, Type)>,
}

impl Attention {
    fn drawn(ty: Type, [b, h, k, t, s, d, e]: Sizes) -> Self {
        let inputs = [
            Numbers::drawn(21, ty, &[b, h, t, d], 2.0),
            Numbers::drawn(22, ty, &[b, k, s, d], 2.0),
            Numbers::drawn(23, ty, &[b, k, s, e], 2.0),
        ];
        let (mask, sinks) = (None, None);
        Self {
            ty,
            inputs,
            mask,
            sinks,
        }
    }

    fn check(&self, stream: &Stream, layout: Layout) {
        let [query, key, value] = &self.inputs;
        let mask = self.mask.as_ref();
        let sinks = self.sinks.as_ref().map(|(sinks, _)| sinks);
        let bytes = |kind: MaskKind| kind == MaskKind::Bytes;
        let of = mask.map(|(mask, kind)| (mask, bytes(*kind)));
        let expected = oracle::attention([query, key, value], of, sinks, SCALE);
        let inputs = self
            .inputs
            .iter()
            .map(|input| layout.tensor(stream, self.ty, input));
        let mask = mask.map(|(mask, kind)| match *kind {
            MaskKind::Bytes => layout.tensor(stream, Type::U8, mask),
            MaskKind::Added(ty) => layout.tensor(stream, ty, mask),
        });
        let sinks = self
            .sinks
            .as_ref()
            .map(|(sinks, ty)| layout.tensor(stream, *ty, sinks));
        let inputs: Vec<Tensor> = inputs.chain(mask).chain(sinks).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let op = Op::Attention {
            scale: SCALE,
            sinks: self.sinks.is_some(),
        };
        let got = apply(stream, &op, &inputs);
        let shapes: Vec<_> = inputs
            .iter()
            .map(|input| input.tensor_type().to_string())
            .collect();
        let what = format!("attention of {shapes:?} {layout:?} on {stream}");
        // A GPU's products may take the first bits of each number alone.
        let near = match stream.device() {
            Device::Cpu => (1e-5, 4e-6),
            Device::Gpu => (8e-3, 8e-3 + 4.0 * crate::numbers::unit(self.ty)),
        };
        assert_near(&what, self.ty, &Numbers::read(&got), &expected, near);
    }
}

#[test]
fn attention_is_right() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in SIZES {
                for layout in LAYOUTS {
                    Attention::drawn(ty, sizes).check(stream, layout);
                }
            }
        }
    });
}

#[test]
fn masks_hide_what_they_say() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in [
                SIZES[1],
                SIZES[2],
                SIZES[3],
                [1, 4, 2, 10, 19, 9, 7],
                // Parts of which one may be hidden as a whole.
                [1, 2, 1, 1, 3000, 33, 40],
            ] {
                let [b, h, _, t, s, ..] = sizes;
                for dims in [
                    &[b, h, t, s][..],
                    &[b, 1, 1, s],
                    &[1, 1, t, s],
                    &[t, 1],
                    &[s],
                ] {
                    for kind in [
                        MaskKind::Bytes,
                        MaskKind::Added(ty),
                        MaskKind::Added(Type::F32),
                    ] {
                        let mut mask = Numbers::drawn(24, Type::F32, dims, 4.0);
                        for (at, value) in mask.values.iter_mut().enumerate() {
                            // The first position is always seen.
                            let seen = *value > -1.0 || at % mask.dims[dims.len() - 1] == 0;
                            *value = match kind {
                                MaskKind::Bytes => f64::from(u8::from(seen) * 3),
                                _ if seen => crate::numbers::rounded(ty, *value),
                                _ => f64::NEG_INFINITY,
                            };
                        }
                        let attention = Attention {
                            mask: Some((mask, kind)),
                            ..Attention::drawn(ty, sizes)
                        };
                        attention.check(stream, LAYOUTS[0]);
                        attention.check(stream, LAYOUTS[1]);
                    }
                }
            }
        }
    });
}

#[test]
fn sinks_take_their_share() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in SIZES {
                let [b, h, _, t, s, ..] = sizes;
                for (kind, hidden) in [
                    (None, 0.0),
                    (Some(MaskKind::Bytes), 0.0),
                    (Some(MaskKind::Added(ty)), f64::NEG_INFINITY),
                ] {
                    // Every third position is hidden, and of one row in two all: the sink alone is left.
                    let seen = |at: usize| (at / s).is_multiple_of(2) && at % 3 != 1;
                    let values = (0..b * t * s).map(|at| match seen(at) {
                        true => 1.0,
                        false => hidden,
                    });
                    let mask = Numbers::new(&[b, 1, t, s], values.collect());
                    let of = [ty, Type::F32][usize::from(stream.device() == Device::Cpu)];
                    let attention = Attention {
                        mask: kind.map(|kind| (mask, kind)),
                        sinks: Some((Numbers::drawn(25, of, &[h], 3.0), of)),
                        ..Attention::drawn(ty, sizes)
                    };
                    attention.check(stream, LAYOUTS[0]);
                    attention.check(stream, LAYOUTS[1]);
                }
            }
        }
    });
}

/// Where nothing is to be seen: a mask of bytes makes all positions count alike, as a sum with the least
/// number does; one of minus infinities leaves nothing to count with.
#[test]
fn masks_may_hide_everything() {
    on_each_device(|stream| {
        for (value, kind) in [
            (0.0, MaskKind::Bytes),
            (f64::from(f32::MIN), MaskKind::Added(Type::F32)),
            (f64::NEG_INFINITY, MaskKind::Added(Type::F32)),
        ] {
            for sizes in [SIZES[2], [1, 2, 1, 3, 2500, 8, 8], SIZES[6]] {
                // MLX has another opinion of it.
                if stream.device() == Device::Gpu && sizes[3] > 4 {
                    continue;
                }
                let mask = Numbers::new(&[1, sizes[4]], vec![value; sizes[4]]);
                let attention = Attention {
                    mask: Some((mask, kind)),
                    ..Attention::drawn(Type::F32, sizes)
                };
                attention.check(stream, LAYOUTS[0]);
            }
        }
    });
}

#[test]
fn huge_scores_do_not_overflow() {
    on_each_device(|stream| {
        for ty in TYPES {
            for sizes in [SIZES[2], SIZES[6]] {
                let mut attention = Attention::drawn(ty, sizes);
                for x in &mut attention.inputs[0].values {
                    *x *= 64.0;
                }
                attention.inputs[0] = Numbers {
                    values: attention.inputs[0]
                        .values
                        .iter()
                        .map(|&x| crate::numbers::rounded(ty, x))
                        .collect(),
                    ..attention.inputs[0].clone()
                };
                let [query, key, value] = &attention.inputs;
                let expected = oracle::attention([query, key, value], None, None, SCALE);
                let inputs: Vec<_> = attention
                    .inputs
                    .iter()
                    .map(|x| x.tensor(stream, ty))
                    .collect();
                let inputs: Vec<_> = inputs.iter().collect();
                let got = apply(stream, &PLAIN, &inputs);
                let got = Numbers::read(&got);
                assert!(got.values.iter().all(|x| x.is_finite()));
                if stream.device() == Device::Cpu {
                    // The error of a score in the hundreds is one of its exponential.
                    assert_near("huge scores", ty, &got, &expected, (1e-2, 1e-2));
                }
            }
        }
    });
}

#[test]
fn what_is_not_a_number_spreads_to_what_sees_it() {
    on_each_device(|stream| {
        for sizes in [SIZES[2], SIZES[6]] {
            let mut attention = Attention::drawn(Type::F32, sizes);
            // In the first head of the key; another one serves the last head.
            attention.inputs[1].values[3] = f64::NAN;
            let inputs: Vec<_> = attention
                .inputs
                .iter()
                .map(|x| x.tensor(stream, Type::F32))
                .collect();
            let inputs: Vec<_> = inputs.iter().collect();
            let got = apply(stream, &PLAIN, &inputs);
            let got = Numbers::read(&got);
            assert!(got.values[0].is_nan());
            assert!(got.values.last().unwrap().is_finite());
        }
    });
}
