//! Idempotency keys of steps, for the outside world.

use session_core::{ItemIdentity, SessionId, StepIdentity, StepOccurrence};
use uuid::Uuid;

/// Returns the idempotency key of a step: the same in every attempt and retry, unless a recorded end is run again on purpose
/// (`reruns`). `line` is the first session of the line of retries.
///
/// A UUID v5 in the namespace of that session's id. Its name is the step's name, a zero byte and the number in decimal digits;
/// or the step's name, two zero bytes and the key. If it was run again on purpose, a zero byte and the count follow.
///
/// ```
/// use session_core::{SessionId, StepIdentity};
/// use session_workflow::idempotency_key;
///
/// let line: SessionId = "7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse()?;
/// let publish = idempotency_key(line, &StepIdentity::nth("publish", 1), 0);
/// assert_eq!(publish.to_string(), "0c5146ef-e9b7-518f-940d-a9c2cca65ff9");
/// assert_ne!(publish, idempotency_key(line, &StepIdentity::nth("publish", 1), 1));
/// # Ok::<(), session_core::InvalidId>(())
/// ```
#[must_use]
pub fn idempotency_key(line: SessionId, step: &StepIdentity, reruns: u64) -> Uuid {
    let mut name = identity_bytes(step);
    add_reruns(&mut name, reruns);
    Uuid::new_v5(&Uuid::from_bytes(*line.as_bytes()), &name)
}

/// Returns the idempotency key of an item of an `each`, like that of a step. Its name is that of the `each`, as for a step, three
/// zero bytes, the item's bytes, a zero byte, and the item's occurrence in decimal digits. An item has no zero bytes.
pub(crate) fn item_key(line: SessionId, each: &StepIdentity, item: &ItemIdentity, reruns: u64) -> Uuid {
    let mut name = identity_bytes(each);
    name.extend([0, 0, 0]);
    name.extend(&item.arg);
    name.push(0);
    name.extend(item.n.to_string().bytes());
    add_reruns(&mut name, reruns);
    Uuid::new_v5(&Uuid::from_bytes(*line.as_bytes()), &name)
}

fn identity_bytes(step: &StepIdentity) -> Vec<u8> {
    let mut name = step.name.clone().into_bytes();
    match &step.occurrence {
        StepOccurrence::Number(n) => {
            name.push(0);
            name.extend(n.to_string().bytes());
        }
        StepOccurrence::Key(key) => {
            name.extend([0, 0]);
            name.extend(key.bytes());
        }
    }
    name
}

fn add_reruns(name: &mut Vec<u8>, reruns: u64) {
    if reruns > 0 {
        name.push(0);
        name.extend(reruns.to_string().bytes());
    }
}
