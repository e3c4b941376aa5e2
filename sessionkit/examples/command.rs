//! Runs a program as a session: `cargo run -p sessionkit --example command -- STORE PROGRAM ARG…`.
//!
//! Any process can now inspect it, read its output, pause it and cancel it. `kill -9` of this process ends the
//! program's whole process tree.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::process::ExitCode;

use sessionkit::SessionConfig;
use sessionkit::runner::Command;

// Not `#[tokio::main]`: this binary is also its own supervisor.
#[sessionkit::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(program)) = (args.next(), args.next()) else {
        return Err("usage: command STORE PROGRAM ARG…".into());
    };
    let store = sessionkit::open_store(&format!("file:{store}")).await?;
    let config = SessionConfig::new("command").label("example", "command");
    let mut running = store.runner()?.spawn(config, Command::new(program).args(args)).await?;

    let mut output = running.output().ok_or("a store in a folder keeps output")?;
    let mut bytes = 0;
    while let Some(chunk) = output.next().await? {
        bytes += chunk.bytes.len();
    }
    let report = running.wait().await?;
    println!("{}: {bytes} bytes of output, exit code {}", running.id(), report.exit_code());
    Ok(u8::try_from(report.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
}
