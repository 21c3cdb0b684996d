//! When values are needed for the last time.

use super::Program;

/// What can be given up as a program goes on, so that MLX can use the memory again.
#[derive(Debug)]
pub(super) struct Liveness {
    /// For each instruction the values that nothing needs once it is done.
    pub after: Vec<Vec<usize>>,
}

impl Liveness {
    pub(super) fn of(program: &Program) -> Self {
        let inputs = program.inputs.len();
        // For each value the instruction that needs it last; an instruction's own result is at least
        // needed by itself.
        let mut last: Vec<Option<usize>> = vec![None; inputs];
        for (at, instruction) in program.instructions.iter().enumerate() {
            for &input in &instruction.inputs {
                last[input] = Some(at);
            }
            last.extend(instruction.outs.iter().map(|_| Some(at)));
        }
        let mut needed = vec![false; last.len()];
        for &output in &program.outputs {
            needed[output] = true;
        }
        let mut liveness = Self {
            after: vec![Vec::new(); program.instructions.len()],
        };
        let given_up = last.into_iter().enumerate().filter(|(at, _)| !needed[*at]);
        for (value, last) in given_up {
            if let Some(at) = last {
                liveness.after[at].push(value);
            }
        }
        liveness
    }
}
