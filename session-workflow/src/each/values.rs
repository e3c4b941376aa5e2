//! The values of the items of an `each`.

use std::collections::HashMap;

use session_core::{Session, SessionEvent, StepIdentity};

use crate::attempt::Attempt;
use crate::error::StepError;

/// Reads the values of these items, in their order.
pub(super) async fn read(
    session: &Session,
    attempt: &Attempt,
    each: &StepIdentity,
    input: &[u64],
) -> Result<Vec<Vec<u8>>, StepError> {
    let (wanted, first, last) = {
        let state = attempt.state();
        let status = state.workflow.eaches.get(each);

        let parts = input.iter().filter_map(|number| Some((*number, status?.item(*number)?.value)));
        let parts: HashMap<u64, _> = parts.filter(|(_, value)| value.count > 0).collect();
        let first = parts.values().map(|value| value.first).min().unwrap_or(1);
        let last = parts.values().map(|value| value.last).max().unwrap_or(0);
        (parts, first, last)
    };
    let mut values: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut after = first.saturating_sub(1);
    while after < last {
        let page = session.read_log(after).await?;
        let Some(end) = page.last().map(|record| record.envelope.seq) else { break };
        for record in page {
            let revision = record.envelope.seq;
            if let SessionEvent::ItemValue { each: start, item, part } = record.event
                && wanted.get(&item).is_some_and(|value| (value.first..=value.last).contains(&revision))
                && attempt.state().workflow.eaches.is_start(each, start)
            {
                values.entry(item).or_default().extend(part);
            }
        }
        after = end;
    }
    Ok(input.iter().map(|number| values.remove(number).unwrap_or_default()).collect())
}
