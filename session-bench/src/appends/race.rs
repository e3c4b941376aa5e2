//! Concurrent sessions, each with sequential appends.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::stats::{cpu, micros};

/// The result of one round.
pub(super) struct Round {
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
    /// The latency of each append, in microseconds.
    pub(super) latencies: Vec<f64>,
}

/// Runs `append` `each` times for every session, with a thread for each session.
pub(super) fn threads<S: Send>(sessions: &mut [S], each: usize, append: impl Fn(&mut S) + Sync) -> Round {
    let ready = Barrier::new(sessions.len() + 1);
    let (ready, append) = (&ready, &append);
    let mut round = Round { elapsed: Duration::ZERO, cpu: Duration::ZERO, latencies: Vec::new() };
    std::thread::scope(|scope| {
        let runs: Vec<_> = sessions
            .iter_mut()
            .map(|session| {
                let run = move || {
                    let mut latencies = Vec::with_capacity(each);
                    ready.wait();
                    for _ in 0..each {
                        let start = Instant::now();
                        append(session);
                        latencies.push(micros(start.elapsed()));
                    }
                    latencies
                };
                let thread = std::thread::Builder::new().stack_size(128 * 1024);
                thread.spawn_scoped(scope, run).expect("a thread can be started")
            })
            .collect();
        ready.wait();
        let (start, before) = (Instant::now(), cpu());
        for run in runs {
            round.latencies.extend(run.join().expect("appends succeed"));
        }
        round.elapsed = start.elapsed();
        round.cpu = cpu().saturating_sub(before);
    });
    round
}

/// Runs one task for each session, which returns the latencies of its appends in microseconds.
pub(super) fn tasks<F>(runtime: &tokio::runtime::Runtime, sessions: Vec<F>) -> Round
where
    F: Future<Output = Vec<f64>> + Send + 'static,
{
    runtime.block_on(async {
        let mut latencies = Vec::new();
        let (start, before) = (Instant::now(), cpu());
        let mut running: tokio::task::JoinSet<Vec<f64>> = sessions.into_iter().collect();
        while let Some(done) = running.join_next().await {
            latencies.extend(done.expect("appends succeed"));
        }
        Round { elapsed: start.elapsed(), cpu: cpu().saturating_sub(before), latencies }
    })
}
