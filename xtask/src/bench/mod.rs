//! `cargo xtask bench`: what Emily costs, as ratios to the same work done in the same run.

mod fusion;
mod generation;
mod installing;
mod loading;
mod models;
mod operations;
mod plot;
mod report;
mod script;

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use report::Report;

use crate::{flags, nif, progress, setup, targets::Targets, workspace};

/// Runs the command; the status is 1 where `--check` asks for it and a goal was missed.
pub fn run(flags: &flags::Bench) -> Result<ExitCode> {
    setup::ensure(flags.yes)?;
    installing::require_tools()?;
    nif::run(&flags::Nif {
        cell: flags::Cell::default(),
        from: None,
    })?;
    let targets = Targets::load()?;
    let selection = targets.select(&flags::Cell::default())?;

    let step = progress::step("measuring operations");
    let mut rows = operations::rows()?;
    let of_nx = operations::rows_of_nx()?;
    step.finish(if of_nx.is_empty() {
        "done, without Nx: EMILY_DEPS_PATH names no folder of dependencies"
    } else {
        "done"
    });
    rows.extend(of_nx);
    let step = progress::step("measuring fused functions");
    rows.extend(fusion::rows()?);
    step.finish("done");
    let step = progress::step("measuring checkpoints");
    rows.extend(loading::rows()?);
    step.finish("done");
    let step = progress::step("measuring generation");
    rows.extend(generation::rows()?);
    step.finish("done");
    let step = progress::step("measuring models");
    rows.extend(models::rows()?);
    step.finish("done");
    rows.extend(installing::rows(&targets, &selection)?);

    let report = Report {
        version: workspace::VERSION.to_owned(),
        target: selection.target_name,
        variant: selection.variant_name,
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        rows,
    };
    let folder = report.write(&workspace::root().join("bench/results"))?;
    println!("{report}\nwritten to {}", folder.display());
    let missed = flags.check && !report.met();
    Ok(if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
