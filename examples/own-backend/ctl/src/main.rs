//! A `sessionctl` that also opens stores of the example backend: `own-sessionctl --store redb:PATH run -- make`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use own_backend::RedbStorage;
use sessionkit::backend::Backend;

fn main() -> ExitCode {
    sessionkit::register("redb", async |url| {
        let path = url.path().unwrap_or(Path::new(""));
        let storage = Arc::new(RedbStorage::open(path)?);
        // Next to the database: locks, and the output of programs.
        Ok(Backend::new(storage).folder(path.with_extension("files")))
    })
    .expect("the scheme is free");
    sessionctl::main()
}
