-- Ends a batch of leases for a job. KEYS: the generation, then the records. ARGV: the leases' ids in a row, the
-- reason, the revocation.
local v = call('MGET', unpack(KEYS))
local no = begin(v[1])
if no then return no end
local reason, ended = byte(ARGV[3]), {}
for i = 2, #KEYS do
  local r = v[i]
  if r and byte(r, 2) ~= 2 then
    local id = sub(ARGV[2], i * 16 - 31, i * 16 - 16)
    finish(KEYS[i], id, r, reason, ARGV[4])
    ended[#ended + 1] = id
  end
end
return {0, table.concat(ended)}
