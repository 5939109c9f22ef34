-- Adds to what was used with a profile on a day. KEYS: the generation, the counts. ARGV[2]: the day (4), for how many days
-- counts are kept (4), how many things are counted at most (4); then for each thing its name and how often.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local day, days, most = unp('>I4I4I4', ARGV[2])
local today = floor(now / 86400000)
if day > today + 1 or today >= day + days then return {0} end
local known = call('HLEN', KEYS[2])
for i = 3, #ARGV, 2 do
  local is_new = call('HEXISTS', KEYS[2], ARGV[i]) == 0
  if not is_new or known < most then
    call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1])
    if is_new then known = known + 1 end
  end
end
if not fixed_clock then call('PEXPIREAT', KEYS[2], (day + days) * 86400000) end
return {0}
