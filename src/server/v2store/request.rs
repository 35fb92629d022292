//! Which operation a request of the log means (etcd: `applierV2store`).

use super::{
    error::Refusal,
    event::Action,
    path::Path,
    state::{Answer, Content, Expected, State, Ttl},
};
use crate::pb::etcdserverpb::Request;

/// What became of a request of the log.
pub(crate) type Applied = Result<Option<Answer>, Refusal>;

impl State {
    /// Carries out a request of the log. `now`: the member's clock, in nanoseconds since 1970, for
    /// the TTLs that events show. An expiry has no answer.
    pub(super) fn apply(&mut self, action: Action, request: &Request, now: i64) -> Applied {
        let path = Path::clean(request.path());
        let ttl = Ttl { expires: request.expiration(), is_refresh: request.refresh() };
        let expected = Expected { value: request.prev_value(), index: request.prev_index() };
        let value = request.val.clone().unwrap_or_default();
        let file = || Content { value: Some(value.clone()), ttl };
        let either = || Content { value: Some(value.clone()).filter(|_| !request.dir()), ttl };
        match action {
            Action::Create => self.create(&path, either(), request.method() == "POST", now),
            Action::CompareAndSwap => self.compare_and_swap(&path, expected, file(), now),
            Action::Update => self.update(&path, file(), now),
            Action::Set => self.set(&path, either(), now),
            Action::CompareAndDelete => self.compare_and_delete(&path, expected, now),
            Action::Delete => self.delete(&path, request.dir(), request.recursive(), now),
            Action::Get => self.get(&path, request.recursive(), now),
            Action::Expire => {
                self.expire(request.time(), now);
                return Ok(None);
            }
        }
        .map(Some)
    }
}
