//! Handlers for those who are logged in.

use crate::base::shown::Shown;
use crate::server::handler::{AsyncHandler, Handler, Shape};
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;

/// A handler behind a guard; [`authenticated_only`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct AuthenticatedOnly<H>(H);

/// A handler that runs for users of Flask-Login only, and disconnects the others: the `authenticated_only` decorator of
/// the Flask-SocketIO manual.
///
/// To keep the others out of the whole namespace there is
/// [`Namespace::require_login`](crate::Namespace::require_login).
///
/// ```
/// use shardcast::flask::{CookieSigner, authenticated_only};
/// use shardcast::{Config, Context, Server};
///
/// Server::new(Config::default()).cookie_sessions(CookieSigner::new("secret!")).namespace("/", |io| {
///     io.on("my event", authenticated_only(|cx: &mut Context, text: String| {
///         let session = cx.session();
///         let name = session.user_id().unwrap_or_default();
///         cx.broadcast().emit("my response", format!("{name}: {text}"));
///     }));
/// });
/// ```
pub fn authenticated_only<H>(handler: H) -> AuthenticatedOnly<H> {
    AuthenticatedOnly(handler)
}

/// Whether the client is logged in. If not, its socket is disconnected.
fn admits(cx: &mut Context<'_>) -> bool {
    let is_known = cx.session().user_id().is_some();
    if !is_known {
        let (event, sid) = (Shown(cx.event()), cx.id());
        tracing::info!(?event, sid = %sid.brief(), "not logged in; the socket is disconnected");
        cx.disconnect();
    }
    is_known
}

impl<M: Shape, H: Handler<M>> Handler<M> for AuthenticatedOnly<H> {
    fn admits(&self, cx: &mut Context<'_>) -> bool {
        admits(cx) && self.0.admits(cx)
    }

    fn call(&self, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer {
        self.0.call(cx, arguments)
    }
}

impl<M: Shape, H: AsyncHandler<M>> AsyncHandler<M> for AuthenticatedOnly<H> {
    fn admits(&self, cx: &mut Context<'_>) -> bool {
        admits(cx) && self.0.admits(cx)
    }

    fn call(&self, socket: Socket, arguments: M::Arguments) -> M::Answer {
        self.0.call(socket, arguments)
    }
}
