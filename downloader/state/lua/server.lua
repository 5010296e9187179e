-- (prefix) -> the id of this run of the server; only that travels, since INFO is long and read often
return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
