-- What each revocation does beside its own: the job, and the count of changes.

-- Stores an open job: when (8), the fence that it set (8), whether it is done (1), the job as it was asked.
local function open_job(key, id, fence, job)
  call('SET', key, pack('>I8I8B', now, fence, 0) .. job)
  call('ZADD', 'mf:jobs', now, id)
  return call('INCR', 'mf:changes')
end
