-- Prosody behind fedmux with mod_fedmux: SASL EXTERNAL and bidi over plain TCP to the relay.
-- A complete configuration for one domain with its rooms; README.md beside this file says which lines matter.

plugin_paths = { "/etc/prosody/fedmux" } -- the folder that holds mod_fedmux.lua

modules_enabled = {
	-- Between us and the relay
	"fedmux";   -- leads every stream to the relay, and recognises the relay's
	"s2s_bidi"; -- one TCP stream for both directions of a domain pair
	"smacks";   -- acknowledgements (XEP-0198): what a relay that dies had not passed on comes back, and isn't lost
	"saslauth";

	-- For our own users, as you like
	"roster"; "tls"; "disco"; "pep"; "vcard4"; "vcard_legacy"; "private"; "blocklist"; "carbons"; "ping"; "version"; "time"; "uptime";
}

-- The relay. These are the defaults.
fedmux_address = "127.0.0.1"
fedmux_port = 5266
fedmux_sources = { "127.0.0.1" }
fedmux_unacked_max = 10000 -- stanzas of a stream that the relay hasn't acknowledged; above its limits.unacked_max

-- true: what the relay had not acknowledged when it died is sent again, and a few of it arrive twice. false: it comes back to its
-- sender. README.md beside this file says more.
smacks_s2s_resend = false

-- Only the relay has business at our own s2s port: the world reaches the relay, not us.
s2s_ports = { 5267 }
s2s_interfaces = { "127.0.0.1" }

-- On for every stream that is not the relay's; the module vouches for the relay's.
s2s_require_encryption = true
s2s_secure_auth = true

VirtualHost "example.org"

Component "rooms.example.org" "muc"
