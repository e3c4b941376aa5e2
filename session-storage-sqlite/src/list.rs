//! Lists: which index finds what a filter lets through, in the order of ids, without looking at much else.

use std::num::NonZeroUsize;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use session_core::{SessionFilter, SessionId};

use crate::rows::{COLUMNS, Stored, second};

/// As many sessions are found by when they were updated and then sorted; where there are more, looking at them in the order
/// of their ids soon finds a page full.
const SORTED: i64 = 4000;

/// Another label, found beside the index that leads to the first one, before the session itself is looked at.
const ALSO: &str =
    " AND EXISTS (SELECT 1 FROM labels o WHERE o.key = ? AND o.value = ? AND o.session = l.session)";

/// A page of rows.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<(SessionId, Stored)>,
    /// The last id that was looked at; `None` at the end of the list.
    pub(crate) next: Option<SessionId>,
}

/// At most `limit` rows that the filter lets through, as far as the columns tell, behind an id.
pub(crate) fn page(
    connection: &Connection,
    filter: &SessionFilter,
    after: Option<SessionId>,
    limit: NonZeroUsize,
) -> rusqlite::Result<Rows> {
    let plan = Plan::of(connection, filter, after)?;
    let most = i64::try_from(limit.get()).unwrap_or(i64::MAX).saturating_add(1);
    let sql = format!("{} ORDER BY 1 LIMIT {most}", plan.sql);
    let mut select = connection.prepare_cached(&sql)?;
    let mut found = select.query(params_from_iter(plan.values))?;
    let mut rows: Vec<(SessionId, Stored)> = Vec::new();
    let mut more = false;
    while let Some(row) = found.next()? {
        if rows.len() >= limit.get() {
            more = true;
            break;
        }
        // What has no id is no session; `verify` names it.
        let text = row.get_ref(0)?.as_str().unwrap_or_default();
        if let Ok(id) = text.parse() {
            rows.push((id, Stored::from_row(row, 1)?));
        }
    }
    let next = if more { rows.last().map(|(id, _)| *id) } else { None };
    Ok(Rows { rows, next })
}

/// All names of sessions that any row has, ascending, with those that are none.
pub(crate) fn ids(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    // Of each session one look into the index of records, not one for each record.
    const IDS: &str = "
        WITH RECURSIVE logs (id) AS (
            SELECT min(session) FROM records
            UNION ALL
            SELECT (SELECT min(session) FROM records WHERE session > logs.id) FROM logs WHERE logs.id IS NOT NULL
        )
        SELECT id FROM sessions UNION SELECT id FROM logs WHERE id IS NOT NULL ORDER BY 1";
    connection.prepare_cached(IDS)?.query_map([], |row| row.get(0))?.collect()
}

/// A statement, without its order and limit, and its values.
struct Plan {
    sql: String,
    values: Vec<Value>,
}

impl Plan {
    fn of(
        connection: &Connection,
        filter: &SessionFilter,
        after: Option<SessionId>,
    ) -> rusqlite::Result<Self> {
        let after = after.map_or(String::new(), |id| id.to_string());
        let since = filter.updated_since.map(second);
        let states = filter.states.as_slice();
        let mut plan = Self { sql: String::new(), values: Vec::new() };
        if let Some((key, value)) = filter.labels.first() {
            let labels = "labels l CROSS JOIN sessions s ON s.id = l.session";
            plan.select(labels, "l.session");
            plan.and("l.key = ?", key.clone());
            plan.and("l.value = ?", value.clone());
            plan.and("l.session > ?", after);
        } else if let Some(name) = filter.kept_name() {
            plan.select("sessions s INDEXED BY sessions_by_name", "s.id");
            plan.and("s.name = ?", name);
            plan.and("s.id > ?", after);
        } else if let Some(since) = since
            && is_recent(connection, since)?
        {
            plan.select("sessions s INDEXED BY sessions_by_update", "s.id");
            plan.and("s.updated_second >= ?", since);
            plan.and("s.id > ?", after);
        } else if filter.only_active() && states.len() > 1 {
            plan.select("sessions s INDEXED BY sessions_active", "s.id");
            plan.sql.push_str(" AND s.ended IS NULL");
            plan.and("s.id > ?", after);
        } else if !states.is_empty() {
            // Each state in the order of ids, merged: the states are then no condition any more.
            for state in distinct(states.iter().map(|state| state.name())) {
                if !plan.sql.is_empty() {
                    plan.sql.push_str(" UNION ALL ");
                }
                plan.select("sessions s INDEXED BY sessions_by_state", "s.id");
                plan.and("s.state = ?", state.to_owned());
                plan.and("s.id > ?", after.clone());
                plan.rest(filter);
            }
            return Ok(plan);
        } else {
            plan.select("sessions s", "s.id");
            plan.and("s.id > ?", after);
        }
        plan.rest(filter);
        if !states.is_empty() {
            let places = vec!["?"; states.len()].join(", ");
            plan.sql.extend([" AND s.state IN (", &places, ")"]);
            plan.values.extend(states.iter().map(|state| Value::Text(state.name().to_owned())));
        }
        Ok(plan)
    }

    fn select(&mut self, from: &str, id: &str) {
        self.sql.extend(["SELECT ", id, ", ", COLUMNS, " FROM ", from, " WHERE 1"]);
    }

    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.push(value.into());
    }

    /// Every condition but the states, whether or not an index has seen to it already.
    fn rest(&mut self, filter: &SessionFilter) {
        if let Some(since) = filter.updated_since {
            self.and("s.updated >= ?", since.as_millis());
        }
        if let Some(name) = filter.kept_name() {
            self.and("s.name = ?", name);
        }
        for (key, value) in filter.labels.iter().skip(1) {
            self.sql.push_str(ALSO);
            self.values.extend([Value::Text(key.clone()), Value::Text(value.clone())]);
        }
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether few sessions were updated after that second. Of those of the second itself each is looked at: few, but for what
/// was imported at once just then.
fn is_recent(connection: &Connection, since: i64) -> rusqlite::Result<bool> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM sessions WHERE updated_second > ?1 LIMIT ?2)")?
        .query_row([since, SORTED], |row| row.get(0))?;
    Ok(count < SORTED)
}
