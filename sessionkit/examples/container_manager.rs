//! A manager of at most four named sessions, as one of containers: start, list, restart. A damaged session is named in the
//! list and hides no other.
//!
//! ```toml
//! [dependencies]
//! sessionkit = "0.1"
//! tokio = { version = "1", features = ["full"] }
//! ```
//!
//! `cargo run --example container_manager -- STORE start NAME | list | stop NAME | restart NAME`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::NonZeroUsize;

use sessionkit::{
    CancelRequest, Head, ManagerOptions, Result, SessionConfig, SessionFilter, SessionManager, builder,
};

/// Returns the newest session with this name.
async fn find(manager: &dyn SessionManager, name: &str) -> Result<Head> {
    let list = manager.list_sessions(SessionFilter::all().name(name)).await?;
    list.heads.into_iter().next_back().ok_or_else(|| sessionkit::SessionError::InvalidArgument {
        what: format!("no session is named `{name}`"),
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, command, name @ ..] = &arguments[..] else { panic!("STORE COMMAND [NAME]") };
    let options = ManagerOptions::new().max_sessions(NonZeroUsize::new(4).expect("not 0"));
    let manager = builder(&format!("file:{store}")).options(options).open().await?;
    let name = name.first().map_or("", String::as_str);
    // Queued: the session outlives this process, until another one starts it.
    let config = SessionConfig::new("container").name(name).queued();
    let stop = async |name| {
        let head = find(&*manager, name).await?;
        manager.cancel_session(head.id, CancelRequest::new("stopped", "user")).await?;
        Ok::<_, sessionkit::SessionError>(head.id)
    };
    match command.as_str() {
        "start" => match manager.create_session(config).await {
            Ok(id) => println!("started {name} as {id}"),
            Err(error) => println!("{}: {error}", error.code()),
        },
        "stop" => println!("stopped {}", stop(name).await?),
        "restart" => {
            let config = config.retry_of(stop(name).await?);
            println!("restarted {name} as {}", manager.create_session(config).await?);
        }
        _ => {
            let list = manager.list_active_sessions().await?;
            list.heads.iter().for_each(|head| println!("{} {}", head.name, head.state().name()));
            list.unreadable.iter().for_each(|(id, error)| println!("{id} cannot be read: {error}"));
        }
    }
    Ok(())
}
