//! The memory storage, the reference, keeps the laws.

mod laws {
    use session_testkit::{MemorySubject, storage_laws};

    storage_laws!(|| async { MemorySubject::default() });
}
