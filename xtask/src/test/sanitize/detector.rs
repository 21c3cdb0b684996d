//! What a detector asks of compilers and of the programs that they make.

use crate::flags::Sanitizer;

/// A detector on one operating system.
#[derive(Debug)]
pub struct Detector {
    /// As rustc and C++ compilers name it.
    pub name: &'static str,
    /// As its runtime library is named.
    pub runtime: &'static str,
    /// The variable that tells a program's detector what to do, and its value.
    pub options: (&'static str, String),
    /// Whether the standard library is compiled with the detector, too.
    pub rebuilds_std: bool,
    /// The mistakes that `native/core/examples/canary.rs` makes, and what the report says of each.
    pub canaries: Vec<(&'static str, &'static str)>,
}

impl Detector {
    /// The detector for programs on `os`.
    pub fn of(sanitizer: Sanitizer, os: &str) -> Self {
        match sanitizer {
            Sanitizer::Address => address(os),
            Sanitizer::Thread => thread(),
        }
    }

    /// The flags of rustc.
    pub fn rust_flags(&self) -> String {
        format!("-Zsanitizer={}", self.name)
    }

    /// The flags of the C++ compiler, for mlx-c and our own C++.
    pub fn cpp_flags(&self) -> String {
        format!("-fsanitize={} -fno-omit-frame-pointer -g1", self.name)
    }
}

fn address(os: &str) -> Detector {
    let mut canaries = vec![
        ("freed-in-rust", "heap-use-after-free"),
        ("freed-in-cpp", "heap-use-after-free"),
        ("freed-by-mlx", "heap-use-after-free"),
    ];
    // Apple's system has no LeakSanitizer on Arm.
    let leaks = os == "linux";
    if leaks {
        canaries.push(("leak", "detected memory leaks"));
    }
    Detector {
        name: "address",
        runtime: "asan",
        options: (
            "ASAN_OPTIONS",
            format!(
                "detect_leaks={}:detect_stack_use_after_return=1",
                u8::from(leaks)
            ),
        ),
        rebuilds_std: false,
        canaries,
    }
}

fn thread() -> Detector {
    Detector {
        name: "thread",
        runtime: "tsan",
        // libmlx and OpenBLAS come compiled without the detector, which therefore sees no atomic
        // counter of theirs, and would take each `free` by a last reference for a race with what
        // others did through theirs. So memory that they access through the C library does not
        // count; their locks and threads do, and so does all that our own code accesses.
        options: (
            "TSAN_OPTIONS",
            "ignore_noninstrumented_modules=1:second_deadlock_stack=1".to_owned(),
        ),
        rebuilds_std: true,
        canaries: vec![("race-in-rust", "data race"), ("race-in-cpp", "data race")],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace;

    #[test]
    fn each_mistake_is_one_that_can_be_made() {
        let source = workspace::root().join("native/core/examples/canary.rs");
        let source = fs::read_to_string(source).unwrap();
        for sanitizer in [Sanitizer::Address, Sanitizer::Thread] {
            for (mistake, _) in Detector::of(sanitizer, "linux").canaries {
                assert!(source.contains(&format!("(\"{mistake}\", ")), "{mistake}");
            }
        }
    }

    #[test]
    fn leaks_are_looked_for_where_they_can_be() {
        let linux = Detector::of(Sanitizer::Address, "linux");
        assert!(linux.options.1.contains("detect_leaks=1"));
        assert!(linux.canaries.iter().any(|(mistake, _)| *mistake == "leak"));
        let macos = Detector::of(Sanitizer::Address, "macos");
        assert!(macos.options.1.contains("detect_leaks=0"));
        assert!(!macos.canaries.iter().any(|(mistake, _)| *mistake == "leak"));
    }

    #[test]
    fn compilers_are_told_the_detectors_name() {
        let detector = Detector::of(Sanitizer::Thread, "linux");
        assert_eq!(detector.rust_flags(), "-Zsanitizer=thread");
        assert!(detector.cpp_flags().starts_with("-fsanitize=thread "));
    }
}
