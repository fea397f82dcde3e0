"""Who is there, who may know it, and who stops being told."""

from __future__ import annotations

from play import Cast, scenario


@scenario
async def presence_follows_a_subscription(cast: Cast) -> None:
    """Asked for, granted in both directions, seen to change, seen to end; and gone when it is withdrawn."""
    benvolio = await cast.enter("benvolio", cast.stage.a)
    rosaline = await cast.enter("rosaline", cast.stage.b)

    benvolio.send_presence(pto=rosaline.jid, ptype="subscribe")
    await rosaline.sees(benvolio.jid, "subscribe")
    rosaline.send_presence(pto=benvolio.jid, ptype="subscribed")
    await benvolio.sees(rosaline.jid, "subscribed")
    await benvolio.sees(rosaline.full_jid)

    rosaline.send_presence(pto=benvolio.jid, ptype="subscribe")
    await benvolio.sees(rosaline.jid, "subscribe")
    benvolio.send_presence(pto=rosaline.jid, ptype="subscribed")
    await rosaline.sees(benvolio.jid, "subscribed")
    await rosaline.sees(benvolio.full_jid)

    rosaline.send_presence(pshow="dnd", pstatus="sworn to chastity \U0001f64f", ppriority=5)
    seen = await benvolio.sees(rosaline.full_jid, where=lambda presence: presence["show"] == "dnd")
    assert (seen["status"], seen["priority"]) == ("sworn to chastity \U0001f64f", 5), f"changed on the way: {seen}"

    # Leaving without a word: her server says it for her.
    await rosaline.log_out()
    await benvolio.sees(rosaline.full_jid, "unavailable")

    # Who comes back is told who is there: her server probes.
    rosaline = await cast.enter("rosaline", cast.stage.b)
    await rosaline.sees(benvolio.full_jid)
    await benvolio.sees(rosaline.full_jid)

    rosaline.send_presence(pto=benvolio.jid, ptype="unsubscribed")
    await benvolio.sees(rosaline.jid, "unsubscribed")
    await benvolio.sees(rosaline.full_jid, "unavailable")
    benvolio.send_presence(pto=rosaline.jid, ptype="unsubscribed")
    await rosaline.sees(benvolio.full_jid, "unavailable")

    rosaline.send_presence(pstatus="free again")
    await rosaline.sees(rosaline.full_jid, where=lambda presence: presence["status"] == "free again")
    assert not [p for p in benvolio.presences.unread if p["status"] == "free again"], "a withdrawn subscription still tells"


@scenario
async def subscription_can_be_refused(cast: Cast) -> None:
    """The refusal arrives, and nothing but that she isn't there."""
    paris = await cast.enter("paris", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    paris.send_presence(pto=juliet.jid, ptype="subscribe")
    await juliet.sees(paris.jid, "subscribe")
    await paris.sees(juliet.jid, "unavailable")
    juliet.send_presence(pto=paris.jid, ptype="unsubscribed")
    await paris.sees(juliet.jid, "unsubscribed")
    await paris.has_heard_everything_from(juliet)


@scenario
async def directed_presence_arrives_and_is_taken_back(cast: Cast) -> None:
    """Without any subscription, and ended by the sender's own logging out."""
    friar = await cast.enter("friar", cast.stage.b)
    romeo = await cast.enter("romeo", cast.stage.a)

    friar.send_presence(pto=romeo.full_jid, pstatus="in the cell")
    seen = await romeo.sees(friar.full_jid)
    assert seen["status"] == "in the cell", f"changed on the way: {seen}"
    await friar.log_out()
    await romeo.sees(friar.full_jid, "unavailable")
