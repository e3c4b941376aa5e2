//! The storage of two levels keeps the laws: it shows that those which need a crash, a failed flush or damage can be
//! kept, and runs them.

mod laws {
    use session_testkit::{TieredHarness, storage_laws};

    storage_laws!(|| async { TieredHarness::new() });
}
