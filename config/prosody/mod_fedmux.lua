-- mod_fedmux: all server-to-server traffic of this Prosody goes through a fedmux relay.
--
-- For Prosody 0.12 and later; tested with 0.12.3. Put this file into a folder that plugin_paths names, add "fedmux" to the global
-- modules_enabled (and "s2s_bidi", "smacks" beside it). Options, all global:
--
--   fedmux_address  string  "127.0.0.1"         IP address of the relay's [local] s2s listener
--   fedmux_port     number  5266                its port
--   fedmux_sources  set     { fedmux_address }  IP addresses or networks ("10.0.0.5", "10.0.0.0/29") from which the relay
--                                               connects to us
--
-- The relay speaks TLS with the rest of the world and has verified who is at the other end before a stanza reaches us.
-- Between the relay and us there is plain TCP, on loopback or a private wire. So a stream to or from the relay counts as
-- encrypted and authenticated here: SASL EXTERNAL, bidi (XEP-0288) and stream management (XEP-0198) then work without a
-- certificate of ours, and s2s_require_encryption and s2s_secure_auth stay on for every other stream.
--
-- WHOEVER CAN CONNECT FROM AN ADDRESS IN fedmux_sources SPEAKS FOR EVERY REMOTE DOMAIN. On 127.0.0.1 that is every local
-- process. If that is too many, use dialback (configuration-only.cfg.lua), or a network namespace for the two.

module:set_global();

local filters = require "util.filters";
local ip = require "util.ip";
local st = require "util.stanza";
local timer = require "util.timer";
local manual_resolver = require "net.resolvers.manual";
local service_resolver = require "net.resolvers.service";

local relay_address = module:get_option_string("fedmux_address", "127.0.0.1");
local relay_port = module:get_option_number("fedmux_port", 5266);
local relay_sources = module:get_option_set("fedmux_sources", { relay_address });

local relay_ip = ip.new_ip(relay_address);
if not relay_ip then
	error(("fedmux_address is %q, which is no IP address; write the address of the relay's [local] s2s listener"):format(relay_address), 0);
elseif relay_port < 1 or relay_port > 65535 or relay_port % 1 ~= 0 then
	error(("fedmux_port is %s; write the port of the relay's [local] s2s listener"):format(relay_port), 0);
end

local trusted_networks = {};
for source in relay_sources do
	local network, bits = ip.parse_cidr(source);
	if not network or (source:find("/", 1, true) and not bits) then
		error(("fedmux_sources contains %q, which is neither an IP address nor a network"):format(source), 0);
	end
	table.insert(trusted_networks, { network = network; bits = bits });
end

local function is_trusted_source(address)
	local peer = address and ip.new_ip(address);
	if not peer then return false; end
	for _, trusted in ipairs(trusted_networks) do
		-- util.ip.match reads an address of the other family as an embedded one; "0.0.0.0/0" shall not mean IPv6 too.
		if peer.proto == trusted.network.proto and ip.match(peer, trusted.network, trusted.bits) then
			return true;
		end
	end
	return false;
end

-- Where a stream to a remote domain leads -----------------------------------------------------------------------------

-- mod_s2s asks net.resolvers.service for every domain that it dials, looking the function up at the time of the call.
-- 0.12 has no event between "which domain" and "which address", so this function is the one place to step in.
local look_up_service = service_resolver.new;
local loaded = true;

local function lead_to_relay(hostname, service, conn_type, extra)
	if not loaded then
		return look_up_service(hostname, service, conn_type, extra);
	elseif service == "xmpp-server" then
		local family = relay_ip.proto == "IPv6" and "tcp6" or "tcp4";
		return manual_resolver.new({ { family, relay_address, relay_port, extra } }, conn_type, extra);
	elseif service == "xmpps-server" then
		-- Asked first if mod_tls found a certificate. The relay's local side has no Direct TLS: no target, go on.
		return manual_resolver.new({}, conn_type, extra);
	end
	return look_up_service(hostname, service, conn_type, extra);
end

service_resolver.new = lead_to_relay;

function module.unload()
	loaded = false;
	-- Another module may have put its function over ours and still call us: then ours stays, and only passes on.
	if service_resolver.new == lead_to_relay then
		service_resolver.new = look_up_service;
	end
end

-- What a stream to or from the relay counts as ------------------------------------------------------------------------

local function trust_stream(session)
	session.fedmux = true;
	-- What TLS would have set. mod_saslauth offers and takes up EXTERNAL only on a secure stream, mod_s2s_bidi likewise.
	session.secure = true;
	-- Not nil, or mod_tls makes a context, and with s2s_require_encryption asks for TLS even where none is offered.
	session.ssl_ctx = false;
end

-- Both events fire on the global context before the stream's first octet, for components' streams as well: components
-- inherit only the modules that modulemanager lists, so a hook on each host would miss rooms and gateways.
module:hook("s2sout-connected", function (event)
	local conn = event.session.conn;
	-- A resolver that another module put in may have led elsewhere; that stream is none of our business.
	if ip.new_ip(conn:ip()) == relay_ip and conn:port() == relay_port then
		trust_stream(event.session);
	end
end);

module:hook("s2sin-connected", function (event)
	if is_trusted_source(event.session.conn:ip()) then
		trust_stream(event.session);
	end
end);

-- mod_s2s asks this for each secure stream, once it knows the remote domain. Above mod_s2s_auth_certs, which would find no
-- certificate; its answer also ends the chain, so that s2s_secure_auth does not close the stream.
module:hook("s2s-check-certificate", function (event)
	local session = event.session;
	if not session.fedmux then return; end
	session.cert_chain_status = "valid";
	session.cert_identity_status = "valid";
	return true;
end, 1000);

-- When a stream may carry our stanzas ---------------------------------------------------------------------------------

-- EXTERNAL ends with a restart of the stream, and mod_s2s sends too early around it:
--   * Outgoing, from <success/> on: a stanza sent before the new <features/> overtakes those that wait for them.
--   * Incoming with bidi, from <success/> on: a stanza sent before the restart stands between <success/> and our new stream
--     header, outside of any document; no XML parser accepts it, and it is lost.
-- So we hold stanzas until the stream is ready, and a little longer where it makes stream management cover them, which counts
-- only what is sent after <enable/>.

local xmlns_sm = "urn:xmpp:sm:3";
local SMACKS_TURN_SECONDS = 0.001; -- mod_smacks sends its <enable/> from a timer that is due before this
local WAIT_FOR_RELAY_SECONDS = 2; -- for a relay that says nothing at all after the restart

local function is_message_presence_or_iq(data)
	return st.is_stanza(data) and not data.attr.xmlns and (data.name == "message" or data.name == "presence" or data.name == "iq");
end

local function bounce(host, stanza)
	if stanza.attr.type ~= "error" and stanza.attr.type ~= "result" then
		module:context(host):send(st.error_reply(stanza, "wait", "remote-server-timeout", "The stream to the relay ended before it was ready"));
	end
end

-- Hold what `host` sends over this stream until session.fedmux_release is called. `on_sent`, if given, sees every other
-- element after it was sent. What mod_s2s had queued by itself passes: it is text by then.
local function hold_stanzas(session, host, on_sent)
	local send = session.sends2s;
	local held = { host = host }; -- a destroyed session forgets its host
	session.fedmux_held = held;

	local function hold(data)
		if session.fedmux_held == held and is_message_presence_or_iq(data) then
			table.insert(held, st.clone(data));
			return true; -- or mod_s2s takes the stream for dead and dials
		end
		local sent = send(data);
		if on_sent and st.is_stanza(data) then on_sent(data); end
		return sent;
	end
	session.sends2s = hold;

	function session.fedmux_release()
		if session.fedmux_held ~= held then return; end -- released already, or destroyed
		session.fedmux_held = nil;
		if session.sends2s == hold then session.sends2s = send; end -- a closed stream has another one, which refuses
		for _, stanza in ipairs(held) do
			if not session.sends2s(stanza) then bounce(host, stanza); end
		end
	end
end

module:hook("s2sout-connected", function (event)
	local session = event.session;
	if session.fedmux then
		hold_stanzas(session, session.from_host);
	end
end, -1);

-- Fires just before mod_s2s sends what it has queued.
module:hook("s2sout-established", function (event)
	if event.session.fedmux_held then
		timer.add_task(SMACKS_TURN_SECONDS, event.session.fedmux_release);
	end
end);

module:hook("s2sin-established", function (event)
	local session = event.session;
	if not (session.fedmux and session.outgoing and session.external_auth == "succeeded") then return; end

	local restarted = false;
	hold_stanzas(session, session.to_host, function (sent)
		if sent.name == "enabled" then
			session.fedmux_release();
		elseif sent.name == "stream:features" then
			restarted = true;
			if sent:get_child("sm", xmlns_sm) then
				timer.add_task(WAIT_FOR_RELAY_SECONDS, session.fedmux_release);
			else
				session.fedmux_release();
			end
		end
	end);
	-- A relay that wants stream management turns it on at once: if anything else comes first, there is nothing to wait for.
	filters.add_filter(session, "stanzas/in", function (stanza)
		if restarted and session.fedmux_held and stanza.attr.xmlns ~= xmlns_sm then
			session.fedmux_release();
		end
		return stanza;
	end);
end, 1000);

module:hook("s2s-destroyed", function (event)
	local session = event.session;
	local held = session.fedmux_held;
	if not held then return; end
	session.fedmux_held = nil;
	for _, stanza in ipairs(held) do bounce(held.host, stanza); end
end);

module:log("info", "Streams to remote servers go to the relay at %s port %d; it is recognised by %s", relay_address, relay_port, relay_sources);
