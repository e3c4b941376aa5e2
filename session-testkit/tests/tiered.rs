//! The tiered storage keeps all laws, including those that need a crash, a failed flush or damage.

mod laws {
    use session_testkit::{TieredHarness, storage_laws};

    storage_laws!(|| async { TieredHarness::new() });
}
