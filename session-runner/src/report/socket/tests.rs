//! Tests of the report socket with well-behaved and hostile children.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Mutex;

use session_core::{ErrorCode, ProgressReport};

use super::*;
use crate::report::protocol::REQUEST_BYTES;
use crate::report::{ReportError, report};
use crate::runtime_folder::{PATH_BYTES, ensure_private_folder};

type Received = Arc<Mutex<Vec<ProgressReport>>>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Listens on a socket that collects reports and refuses a percentage above 100.
fn listen(runtime: &tokio::runtime::Runtime) -> (ReportSocket, Received) {
    let received = Received::default();
    let collect = Arc::clone(&received);
    let _inside = runtime.enter();
    let handler = move |request: Request| {
        let Request::Report(report) = request else { panic!("{request:?}") };
        let result = match report.check() {
            Ok(()) => {
                collect.lock().unwrap().push(report);
                Ok(())
            }
            Err(error) => Err(Refusal::new(ErrorCode::InvalidArgument, error.to_string())),
        };
        async { result }
    };
    let socket = ReportSocket::listen(handler, None).unwrap();
    (socket, received)
}

#[test]
fn a_report_is_delivered_and_answered() {
    let runtime = runtime();
    let (socket, received) = listen(&runtime);
    let sent =
        ProgressReport::new().percent(42.5).step("linking").phase("build").completed_steps(3).total_steps(7);
    report(socket.path(), sent.clone()).unwrap();
    assert_eq!(*received.lock().unwrap(), [sent]);
    let refused = report(socket.path(), ProgressReport::new().percent(101.0)).unwrap_err();
    assert!(matches!(&refused, ReportError::Refused { .. }), "{refused:?}");
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
}

#[test]
fn reporting_to_an_owner_that_is_gone_is_fenced() {
    let runtime = runtime();
    let (socket, _) = listen(&runtime);
    let path = socket.path().to_owned();
    drop(socket);
    assert!(!path.exists());
    let error = report(&path, ProgressReport::new().percent(1.0)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Fenced);
    // A killed owner leaves behind a socket file without a listener.
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert_eq!(report(&stale, ProgressReport::new()).unwrap_err().code(), ErrorCode::Fenced);
}

#[test]
fn other_users_cannot_reach_the_socket() {
    let runtime = runtime();
    let (socket, _) = listen(&runtime);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket.path()), 0o600);
    assert_eq!(mode(socket.path().parent().unwrap()), 0o700);
    assert!(socket.path().as_os_str().len() < PATH_BYTES);

    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    assert!(ensure_private_folder(&open).is_err(), "other users can enter");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(socket.path().parent().unwrap(), &link).unwrap();
    assert!(ensure_private_folder(&link).is_err(), "a symbolic link");
    assert!(ensure_private_folder(&folder.path().join("new")).is_ok());
}

#[test]
fn hostile_input_is_refused_with_a_code() {
    let runtime = runtime();
    let (socket, received) = listen(&runtime);
    for (line, code) in [
        (&b"\n"[..], "INVALID_ARGUMENT"),
        (b"{}\n", "INVALID_ARGUMENT"),
        (b"{\"report\":7}\n", "INVALID_ARGUMENT"),
        (b"{\"report\":{\"percent\":\"x\"}}\n", "INVALID_ARGUMENT"),
        (b"{\"delete\":{}}\n", "INVALID_ARGUMENT"),
        (b"\xff\xfe\x00\n", "INVALID_ARGUMENT"),
        (&vec![b'['; usize::try_from(REQUEST_BYTES).unwrap()], "LIMIT_EXCEEDED"),
    ] {
        let mut stream = StdStream::connect(socket.path()).unwrap();
        stream.write_all(line).unwrap();
        let mut response = String::new();
        std::io::BufReader::new(&stream).read_line(&mut response).unwrap();
        assert!(response.contains(code), "{response}");
    }
    // The JSON parser limits the depth: this is refused and overflows no stack.
    let mut stream = StdStream::connect(socket.path()).unwrap();
    stream.write_all(format!("{}\n", "[".repeat(50_000)).as_bytes()).unwrap();
    let mut response = String::new();
    std::io::BufReader::new(&stream).read_line(&mut response).unwrap();
    assert!(response.contains("INVALID_ARGUMENT"), "{response}");
    report(socket.path(), ProgressReport::new().percent(1.0)).unwrap();
    assert_eq!(received.lock().unwrap().len(), 1);
}

/// Regression: the refusal of a request of nearly 64 KiB repeated it and was longer than a child reads.
#[test]
fn a_refusal_of_a_long_request_is_short_enough_to_read() {
    let runtime = runtime();
    let (socket, _) = listen(&runtime);
    let limit = usize::try_from(REQUEST_BYTES).unwrap();
    let mut stream = StdStream::connect(socket.path()).unwrap();
    stream.write_all(format!("{{\"{}\":{{}}}}\n", "x".repeat(limit - 20)).as_bytes()).unwrap();
    let mut response = String::new();
    std::io::BufReader::new(&stream).take(REQUEST_BYTES).read_line(&mut response).unwrap();
    assert!(response.ends_with('\n') && response.contains("INVALID_ARGUMENT"), "{} bytes", response.len());
}

#[test]
fn many_children_can_report_concurrently() {
    let runtime = runtime();
    let (socket, received) = listen(&runtime);
    std::thread::scope(|scope| {
        for child in 0..MAX_CONNECTIONS + 40 {
            let path = socket.path();
            scope.spawn(move || {
                let stream = StdStream::connect(path).unwrap();
                let mut read = std::io::BufReader::new(&stream);
                for turn in 0..5 {
                    let line = format!("{{\"report\":{{\"completed_steps\":{}}}}}\n", child * 10 + turn);
                    (&stream).write_all(line.as_bytes()).unwrap();
                    let mut response = String::new();
                    read.read_line(&mut response).unwrap();
                    assert_eq!(response, "{\"ok\":true}\n");
                }
            });
        }
    });
    assert_eq!(received.lock().unwrap().len(), (MAX_CONNECTIONS + 40) * 5);
}

#[test]
fn dropping_the_socket_ends_its_connections() {
    let runtime = runtime();
    let (socket, _) = listen(&runtime);
    let mut stream = StdStream::connect(socket.path()).unwrap();
    stream.write_all(b"{\"report\":{}}\n").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    drop(socket);
    let mut rest = Vec::new();
    // Closed or reset: in either case it ends.
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn only_sockets_of_owners_that_are_gone_are_swept() {
    let runtime = runtime();
    let (socket, _) = listen(&runtime);
    let folder = socket.path().parent().unwrap();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(gone.id()).unwrap()).unwrap();
    gone.wait().unwrap();
    let name = |pid: Pid, extension: &str| format!("{}-1-x.{extension}", pid.as_raw_nonzero());
    let stale = folder.join(name(pid, SOCKET));
    // A reused id is detected by its start time.
    let reused = folder.join(name(rustix::process::getpid(), SOCKET));
    let terminal = folder.join(name(pid, ATTACH));
    let foreign = folder.join("something-else");
    let left = record_of_left(&stale);
    for path in [&stale, &reused, &terminal, &foreign, &left] {
        std::fs::write(path, "").unwrap();
    }
    let mut stays =
        std::process::Command::new("sleep").arg("600").env(SOCKET_VARIABLE, &stale).spawn().unwrap();
    assert!(sweep_sockets().unwrap() >= 3);
    assert!(!stale.exists() && !reused.exists() && !terminal.exists());
    assert!(left.exists(), "a process that it is about is still running");
    stays.kill().unwrap();
    stays.wait().unwrap();
    sweep_sockets().unwrap();
    assert!(!left.exists());
    assert!(socket.path().exists() && foreign.exists());
    std::fs::remove_file(foreign).unwrap();
}
