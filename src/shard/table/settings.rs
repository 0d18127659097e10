//! Settings that change while the shard runs.

use std::mem;
use std::sync::Arc;

use crate::config::{Config, EndpointSettings};
use crate::protocol::http::forwarded::TrustedProxies;
use crate::protocol::http::hosts::{AllowedHosts, HostWatch};
use crate::shard::table::Tables;
use crate::shard::value::owed::owed_part;

impl Tables {
    /// Takes a newer configuration, which was checked. Most settings are read from it when they are used; what was made of
    /// others is made anew. An endpoint follows where it has the value that the configuration had.
    pub(crate) fn renew(&mut self, config: Arc<Config>) {
        let before = mem::replace(&mut self.env.config, config);
        let after = Arc::clone(&self.env.config);
        let (old, new) = (EndpointSettings::new(&before), EndpointSettings::new(&after));
        for endpoint in &mut self.env.endpoints {
            let (options, settings) = (&mut endpoint.options, &mut endpoint.settings);
            if options.cors_allowed_origins.is_same(&before.engine.cors_allowed_origins) {
                options.cors_allowed_origins.clone_from(&after.engine.cors_allowed_origins);
            }
            let (was, is) = (&before.engine, &after.engine);
            follow(&mut options.cors_credentials, &was.cors_credentials, &is.cors_credentials);
            follow(&mut options.cors_allowed_headers, &was.cors_allowed_headers, &is.cors_allowed_headers);
            follow(&mut options.cors_max_age, &was.cors_max_age, &is.cors_max_age);
            follow(&mut settings.permessage_deflate, &old.permessage_deflate, &new.permessage_deflate);
            follow(&mut settings.sessions_max, &old.sessions_max, &new.sessions_max);
            follow(
                &mut settings.events_per_second_max,
                &old.events_per_second_max,
                &new.events_per_second_max,
            );
            follow(&mut settings.bytes_per_second_max, &old.bytes_per_second_max, &new.bytes_per_second_max);
            follow(&mut settings.rate_policy, &old.rate_policy, &new.rate_policy);
            follow(&mut settings.inflate_ratio_max, &old.inflate_ratio_max, &new.inflate_ratio_max);
            follow(&mut settings.http_compression, &old.http_compression, &new.http_compression);
        }
        self.env.trusted_proxies = TrustedProxies::parse(&after.trusted_proxies).unwrap_or_default();
        if before.allowed_hosts != after.allowed_hosts {
            self.env.allowed_hosts = AllowedHosts::parse(&after.allowed_hosts).unwrap_or_default();
            self.env.host_watch = HostWatch::new(&after.allowed_hosts, &after.bind);
        }
        self.pools.transcoder.set_threshold(after.compression_threshold);
        self.namespaces.made_max = after.namespaces_max;
        self.owed.bound(owed_part(after.outboxes_bytes_max, self.mesh.len()));
        self.partial_part();
        self.bound_outside();
    }
}

fn follow<T: PartialEq + Clone>(own: &mut T, before: &T, after: &T) {
    if own == before {
        own.clone_from(after);
    }
}
