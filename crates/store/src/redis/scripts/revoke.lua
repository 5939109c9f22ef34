-- What each revocation does beside its own: the job, and the count of changes.

-- Stores an open job: when (8), the fence that it set (8), until when it is kept (8, 0 while it is open), the
-- job as it was asked for.
local function open_job(key, id, fence, job)
  call('SET', key, pack('>I8I8I8', now, fence, 0) .. job)
  call('ZADD', 'mf:jobs', now, id)
  return call('INCR', 'mf:changes')
end
