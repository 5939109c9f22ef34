-- What each revocation does beside its own: the job, and the feed's event.

-- How the leases of an index are checked: online, by the feed, offline, and when the last of them ends; nothing without
-- an index.
local function exposure(key)
  if not key then return {} end
  local counts = {0, 0, 0, 0}
  for mode = 0, MODES - 1 do
    local low, high = mode * MODE, (mode + 1) * MODE - 1
    counts[mode + 1] = live_of(key, mode)
    if counts[mode + 1] > 0 then
      local last = call('ZRANGE', key, high, low, 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')
      counts[4] = max(counts[4], last[2] - low)
    end
  end
  return counts
end

-- Stores an open job: when (8), the fence that it set (8), until when it is kept (8, 0 while it is open), the
-- job as it was asked for. Returns the number of the event, which tells `what` of a gate or a mark.
local function open_job(key, id, fence, job, kind, what)
  call('SET', key, pack('>I8I8I8', now, fence, 0) .. job)
  call('ZADD', 'mf:jobs', now, id)
  return publish(kind, id, what)
end
