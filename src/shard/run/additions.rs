//! Namespaces that are registered while the server runs.
//!
//! Every shard makes the handlers first; then all take them up, or drop them because one could not. So a namespace is on all shards or on
//! none, and at the same place of [`App::namespaces`](crate::shard::user::app::App) on each.

use std::rc::Rc;

use crate::base::guard::discard;
use crate::mesh::additions::{Addition, Step};
use crate::shard::run::Shard;
use crate::shard::table::namespaces::is_pattern;
use crate::shard::user::app::LateNamespace;
use crate::shard::user::shard_info::ShardInfo;

impl Shard {
    /// Does one step, and says so.
    pub(crate) fn add(&mut self, step: Step, Addition(what): &Addition) {
        let done = match step {
            Step::Make => match what.downcast_ref() {
                Some(namespace) => self.make_namespace(namespace),
                None => {
                    debug_assert!(false, "namespaces alone are registered while a server runs");
                    Err("it is no namespace".to_owned())
                }
            },
            Step::TakeUp => {
                self.take_up_namespace();
                Ok(())
            }
            Step::Drop => {
                discard(self.made.take());
                Ok(())
            }
        };
        let core = self.core.borrow();
        core.tables.mesh.note_added(core.tables.env.id, done);
    }

    /// Lets the user's setup register the handlers.
    fn make_namespace(&mut self, late: &LateNamespace) -> Result<(), String> {
        let name = late.address.name();
        let (shard, endpoint) = {
            let tables = &self.core.borrow().tables;
            let shard = ShardInfo::new(tables.env.id, tables.mesh.len());
            (shard, tables.namespaces.endpoint_at(&late.address))
        };
        let known = endpoint.and_then(|number| Some((number, self.app.endpoint(number)?)));
        let Some((endpoint, handlers)) = known else {
            let path = late.address.endpoint().unwrap_or_default();
            return Err(format!("namespace {name:?}: there is no endpoint at {path}"));
        };
        if handlers.route.is_some() {
            return Err(format!("namespace {name:?}: the endpoint at {} is raw", handlers.options.path));
        }
        self.app.check_namespace(endpoint, name)?;
        if is_pattern(name) {
            self.core.borrow().tables.namespaces.check_pattern(endpoint, name)?;
        }
        let slow = handlers.slow;
        let mut made = self
            .call(&mut (), |()| (late.make)(shard, slow), |()| format!("the setup of namespace {name}"))
            .map_err(|panic| format!("namespace {name:?}: its setup panicked: {panic}"))??;
        made.endpoint = endpoint;
        self.made = Some(made);
        Ok(())
    }

    fn take_up_namespace(&mut self) {
        let Some(made) = self.made.take() else { return };
        let place = self.app.namespaces.len();
        let mut core = self.core.borrow_mut();
        core.register(place as u16, (made.endpoint, &made.name), &made.slow, &made.state_rooms);
        let namespaces = &mut core.tables.namespaces;
        if !is_pattern(&made.name) {
            // Those that were registered before the server ran are heard of from other processes without a member, too.
            let number = namespaces.find(made.endpoint, &made.name).expect("it was just registered");
            core.tables.hold_outside(number, None);
        } else if let Err(fault) = namespaces.register_pattern(made.endpoint, &made.name, place as u16) {
            debug_assert!(false, "it was checked when the handlers were made: {fault}");
        }
        drop(core);
        let app =
            Rc::get_mut(&mut self.app).expect("messages are taken between handlers, which alone hold it");
        app.namespaces.push(Rc::new(made));
        self.start_tickers(place);
    }
}
