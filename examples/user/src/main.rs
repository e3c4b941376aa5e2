//! `user STORE import FILE` adds up the numbers of a file, `user STORE build PROGRAM ARG…` runs a program.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use sessionkit::SessionManager as _;
use sessionkit::manager::ObservableSessionManager;
use sessionkit::runner::Command;
use user::{Counter, build, import};

#[sessionkit::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let counter = Arc::new(Counter::default());
    let observer = Arc::clone(&counter);
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [store, "import", file] => {
            let manager = sessionkit::open(store).await?;
            let manager = ObservableSessionManager::new(manager).observe("counter", observer);
            let report = import(&manager, Path::new(file)).await?;
            println!("{}: {}", report.state.name(), report.result::<u64>()?);
            // Observers have received all events after it.
            manager.shutdown().await?;
        }
        [store, "build", program, arguments @ ..] => {
            let store = sessionkit::open_store(store).await?.map_manager(|manager| {
                Arc::new(ObservableSessionManager::new(manager).observe("counter", observer))
            });
            let command = Command::new(*program).args(arguments.iter().copied());
            let (report, text) = build(&store, command).await?;
            println!("{}: {text}", report.exit_code());
            store.manager().shutdown().await?;
        }
        _ => bail!("usage: user STORE import FILE, or user STORE build PROGRAM ARG…"),
    }
    println!("{} sessions started", counter.count("started"));
    Ok(())
}
