-- Finds undos that are due; overdue leases are ended first. KEYS: the generation. ARGV[2]: how many to look at.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local due = {}
for _, id in ipairs(call('ZRANGEBYSCORE', 'mf:u', '-inf', now, 'LIMIT', 0, u32(ARGV[2]))) do
  local key = 'mf:l:{l' .. id .. '}'
  local r = call('GET', key)
  if not r then
    call('ZREM', 'mf:u', id)
  elseif not readable(r) then
    due[#due + 1] = id
  else
    local state, expires, confirm_by = byte(r, 2), u64(r, 17), u64(r, 33)
    if state == 0 and now < confirm_by then
      call('ZADD', 'mf:u', confirm_by, id)
    elseif state == 1 and now < expires then
      call('ZADD', 'mf:u', expires, id)
    else
      if state ~= 2 then r = finish(key, id, r, state == 0 and 5 or 1, sub(r, 41, 56)) end
      due[#due + 1] = id .. r
    end
  end
end
return {0, due}
