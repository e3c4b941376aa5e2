//! `import`: stores exported sessions, after checking the whole file.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::Serialize;
use sessionkit::storage::{ImportCheck, ImportReport};
use sessionkit::{ErrorCode, SessionId};

use super::export::failure;
use super::legacy;
use crate::args::Import;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::json::{self, SCHEMA};
use crate::plain_file;
use crate::render::Table;

/// Limit beyond any line of an export: a record is at most 1 MiB, a chunk of output less.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    imported: &'a [SessionId],
    skipped: &'a [SessionId],
}

pub(crate) async fn run(args: &Import, context: &Context) -> Result<u8> {
    if let Some(format) = args.format {
        return legacy::run(format.into(), &args.file, args.dry_run, context).await;
    }
    let mut file = Lines::new(open(&args.file)?, &args.file);
    let mut check = ImportCheck::new();
    while let Some(line) = file.next()? {
        check.line(line).map_err(|error| failure(&error))?;
    }
    let plan = check.finish().map_err(|error| failure(&error))?;
    let store = context.open().await?;
    let mut import = store.import(plan).await.map_err(|error| failure(&error))?;
    file.rewind()?;
    while let Some(line) = file.next()? {
        import.line(line).await.map_err(|error| failure(&error))?;
    }
    let ImportReport { imported, skipped, .. } = import.finish();
    if context.term.json {
        let report = Report { schema: SCHEMA, imported: &imported, skipped: &skipped };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else if imported.is_empty() && skipped.is_empty() {
        context.hint("the file contains no sessions", &[], &["ls", "--all"]);
    } else {
        let mut table = Table::new(&["ID", "IS NOW"]);
        let rows = imported.iter().map(|id| (id, "imported"));
        for (id, outcome) in rows.chain(skipped.iter().map(|id| (id, "already there"))) {
            table.row(vec![(id.to_string(), ""), (outcome.to_owned(), "")]);
        }
        context.term.print(&table.render(&context.term))?;
    }
    Ok(0)
}

/// Opens a file that can be read twice: standard input is copied into a temporary file first.
fn open(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        let mut spooled =
            tempfile::tempfile().map_err(|error| io_failure("create a temporary file for", path, &error))?;
        io::copy(&mut io::stdin().lock(), &mut spooled).map_err(|error| io_failure("read", path, &error))?;
        spooled.flush().and_then(|()| spooled.rewind()).map_err(|error| io_failure("read", path, &error))?;
        return Ok(spooled);
    }
    let (file, metadata) = plain_file::open(path).map_err(|error| io_failure("open", path, &error))?;
    if metadata.is_file() {
        return Ok(file);
    }
    Err(Failure::invalid(format!("{} is not a regular file: pipe it into `import -`", path.display())))
}

struct Lines<'a> {
    file: BufReader<File>,
    path: &'a Path,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(file: File, path: &'a Path) -> Self {
        Self { file: BufReader::new(file), path, line: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = (&mut self.file).take(LONGEST_LINE).read_until(b'\n', &mut self.line);
        read.map_err(|error| io_failure("read", self.path, &error))?;
        Ok(Some(self.line.as_slice()).filter(|line| !line.is_empty()))
    }

    fn rewind(&mut self) -> Result<()> {
        self.file.rewind().map_err(|error| io_failure("read", self.path, &error))
    }
}

fn io_failure(action: &str, path: &Path, error: &io::Error) -> Failure {
    let kind = error.kind();
    let code = if kind == io::ErrorKind::StorageFull {
        ErrorCode::StorageFull
    } else if kind == io::ErrorKind::NotFound || kind == io::ErrorKind::PermissionDenied {
        ErrorCode::InvalidArgument
    } else {
        ErrorCode::StorageIo
    };
    Failure::new(code, format!("cannot {action} {}: {error}", path.display()))
}
