-- Forgets followers.
local function forget(ids)
  if #ids == 0 then return end
  call('HDEL', 'mf:followers', unpack(ids))
  call('ZREM', 'mf:followers:applied', unpack(ids))
  call('ZREM', 'mf:followers:known', unpack(ids))
end
