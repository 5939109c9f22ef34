-- What each revocation does beside its own: the job, and the feed's event.

-- Stores an open job: when (8), the fence that it set (8), until when it is kept (8, 0 while it is open), the
-- job as it was asked for. Returns the number of the event, which tells `what` of a gate or a mark.
local function open_job(key, id, fence, job, kind, what)
  call('SET', key, pack('>I8I8I8', now, fence, 0) .. job)
  call('ZADD', 'mf:jobs', now, id)
  return publish(kind, id, what)
end
