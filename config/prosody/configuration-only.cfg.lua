-- Prosody behind fedmux without any module: server dialback over plain TCP to the relay, found through DNS.
-- A complete configuration for one domain with its rooms; README.md beside this file says which lines matter.

modules_enabled = {
	-- Between us and the relay
	"dialback"; -- the relay asks us back, at the address that its `deliver` names
	"saslauth";

	-- For our own users, as you like
	"roster"; "tls"; "disco"; "pep"; "vcard4"; "vcard_legacy"; "private"; "blocklist"; "carbons"; "ping"; "version"; "time"; "uptime";
}

-- Every domain's SRV record leads to the relay's [local] s2s listener, port 5266 on this machine. libunbound answers from
-- this table and asks nobody. To lead only some domains there, name a zone instead of the root in BOTH lines
-- ("example.net. redirect", "example.net. 60 IN ..."): one zone only, and the rest resolves as usual.
unbound = {
	resolvconf = false;
	hoststxt = false;
	forward = { "127.0.0.1@9" };
	options = {
		["local-zone:"] = ". redirect";
		["local-data:"] = ". 60 IN SRV 0 0 5266 localhost.";
	};
}

-- Only the relay has business at our own s2s port: the world reaches the relay, not us.
s2s_ports = { 5267 }
s2s_interfaces = { "127.0.0.1" }

-- The streams to and from the relay are plain TCP on this machine; the relay does the TLS with the world.
s2s_require_encryption = false
s2s_secure_auth = false
s2s_allow_encryption = false -- or mod_tls tries Direct TLS first, since the table above answers for that service too

VirtualHost "example.org"

Component "rooms.example.org" "muc"
