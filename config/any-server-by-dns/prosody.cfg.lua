-- Prosody behind fedmux by DNS alone: every look-up goes to fedmux's [local] dns, which leads streams to remote servers to the
-- relay and resolves the rest. A complete configuration for one domain with its rooms; README.md says which lines matter.

modules_enabled = {
	-- Between us and the relay
	"dialback"; -- the relay asks us back, at the address that its `deliver` names
	"saslauth";

	-- For our own users, as you like
	"roster"; "tls"; "disco"; "pep"; "vcard4"; "vcard_legacy"; "private"; "blocklist"; "carbons"; "ping"; "version"; "time"; "uptime";
}

-- The relay's [local] dns.
unbound = {
	resolvconf = false;
	hoststxt = false;
	forward = { "127.0.0.1@5353" };
	options = {
		["do-not-query-localhost:"] = "no";
	};
}

-- Only the relay has business at our own s2s port: the world reaches the relay, not us.
s2s_ports = { 5267 }
s2s_interfaces = { "127.0.0.1" }

-- The streams to and from the relay are plain TCP on this machine; the relay does the TLS with the world.
s2s_require_encryption = false
s2s_secure_auth = false
s2s_allow_encryption = false -- between servers only; users keep STARTTLS

VirtualHost "example.org"

Component "rooms.example.org" "muc"
