//! Subscriptions of programs: each is kept before whoever asked is told so, and is an upstream from then on.

use tokio::sync::oneshot;

use super::{Came, Dispatcher};
use crate::events::store::Write;
use crate::events::upstream::desk::{Subscribed, SubscriptionWish, UpstreamError};
use crate::events::upstream::subscription::{Applicant, Subscription, SubscriptionError, opaque_instead};

/// Where an answer goes.
type Reply = oneshot::Sender<Result<Vec<Subscribed>, UpstreamError>>;

/// What the store was asked to keep, and whether it did.
pub(super) struct Kept {
    subscription: Subscription,
    /// It is over, rather than new.
    over: bool,
    trouble: Option<String>,
    reply: Reply,
}

impl Dispatcher {
    /// Does what somebody asks about the subscriptions of an extension.
    pub(super) fn subscription_wished(
        &mut self,
        extension: &str,
        who: &Applicant,
        what: SubscriptionWish,
        reply: Reply,
    ) {
        let config = self.config.borrow().clone();
        let done = match what {
            SubscriptionWish::List => self.subscriptions.list(&config, extension, who).map(|all| (all, None)),
            SubscriptionWish::Add(wanted) => {
                let added = self.subscriptions.add(&config, wanted, who, &mut self.chance);
                added.map(|(it, new)| {
                    let write = new.then(|| Write::Subscribed(it.clone()));
                    (vec![it], write)
                })
            }
            SubscriptionWish::End(id) => {
                let ended = self.subscriptions.to_end(&config, extension, id, who);
                ended.map(|it| (vec![it], Some(Write::Unsubscribed(id))))
            }
        };
        // Who asked may have gone away meanwhile.
        match done {
            Err(error) => drop(reply.send(Err(error.into()))),
            Ok((all, write)) => match (all.first().cloned(), write) {
                (Some(subscription), Some(write)) => self.keep_subscription(subscription, write, reply),
                _ => drop(reply.send(Ok(self.told(all)))),
            },
        }
    }

    fn keep_subscription(&mut self, subscription: Subscription, write: Write, reply: Reply) {
        let (archive, results) = (self.archive.clone(), self.results.clone());
        let over = matches!(write, Write::Unsubscribed(_));
        tokio::spawn(async move {
            let trouble = archive.commit(write).await.err().map(|error| error.to_string());
            let _ = results.send(Came::Kept(Kept { subscription, over, trouble, reply })).await;
        });
    }

    /// The store has answered.
    pub(super) fn subscription_kept(&mut self, kept: Kept) {
        let Kept { subscription, over, trouble, reply } = kept;
        if over == trouble.is_none() {
            self.subscriptions.forget(subscription.id);
        }
        self.configure();
        let _ = reply.send(match trouble {
            Some(trouble) => Err(SubscriptionError::NotKept(trouble).into()),
            None => Ok(self.told(vec![subscription])),
        });
    }

    fn told(&mut self, all: Vec<Subscription>) -> Vec<Subscribed> {
        let chance = &mut self.chance;
        let told = |subscription: Subscription| {
            let proposal = opaque_instead(&subscription.url, chance);
            Subscribed { subscription, proposal }
        };
        all.into_iter().map(told).collect()
    }
}
