defmodule Emily.Soak.InstallsTest do
  # Installs in processes of their own that are killed at any moment. What is there then is the old
  # state or the new one, and the next install heals.
  use Emily.Test.InstallCase, async: false

  import Emily.Test.InstallState

  alias Emily.Test.{InstallProcess, Xtask}

  @moduletag timeout: :infinity

  setup context do
    keys = Path.join(context.dir, "keys.json")
    File.write!(keys, context.key.text)
    empty = keep(context)
    old = Map.put(ReleaseFactory.files("of old"), "THIRD-PARTY", "MIT too")
    republish(context, ReleaseFactory.archive(context.artifact, old))
    assert {:ok, _manifest} = install(context)
    upgraded = Path.join(context.dir, "of old")
    File.mkdir_p!(upgraded)

    for folder <- [context.cache, context.priv],
        do: {_output, 0} = System.cmd("cp", ["-a", folder, upgraded])

    new = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(2_000_000))
    republish(context, ReleaseFactory.archive(context.artifact, new))
    %{keys: keys, states: [{%{}, empty}, {old, upgraded}], new: new}
  end

  for {tag, kills} <- [brief: 6, soak: 500], program <- [:elixir, :rust] do
    @tag tag
    @tag skip: if(program == :rust, do: Xtask.problem())
    test "#{kills} installs by #{program} that are killed at random heal", context do
      program = program(unquote(program))
      :rand.seed(:exsss, {3, 2, 1})
      counts = rounds(context, program, duration(context, program), unquote(kills), %{})
      if unquote(kills) > 100, do: IO.puts("\n#{unquote(program)}: #{inspect(counts)}")
    end
  end

  # Rounds until so many were killed. Some end before their moment comes: then the next moments come
  # sooner, and otherwise later, since an install takes as long as the machine has it take.
  defp rounds(_context, _program, _duration, 0, counts), do: counts

  defp rounds(context, program, duration, kills, counts) do
    {before, template} = Enum.random(context.states)
    restore(context, template)
    moment = round(:rand.uniform() * duration)
    status = killed(context, program, moment)

    state = state_left(context, before, context.new, "#{moment} of #{round(duration)} ms")
    nothing_unverified(context, [before, context.new])
    assert {:ok, _manifest} = heal(context, program)
    assert installed(context) == context.new
    assert leftovers(context) == []

    if status == 137,
      do: rounds(context, program, duration * 1.02, kills - 1, count(counts, {state, :killed})),
      else: rounds(context, program, duration * 0.9, kills, count(counts, {state, :finished}))
  end

  defp count(counts, what), do: Map.update(counts, what, 1, &(&1 + 1))

  defp program(:elixir), do: &InstallProcess.start/1

  defp program(:rust) do
    path = Xtask.example("installer")

    fn context ->
      arguments = [context.keys, context.server.url, context.cache, context.priv, "30000"]

      Port.open({:spawn_executable, path}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 4_096,
        args: arguments
      ])
    end
  end

  # From the first thing that an install says to its end.
  defp duration(context, program) do
    {_files, template} = hd(context.states)
    restore(context, template)
    {port, since} = begun(context, program)
    assert ended(port) == 0
    System.monotonic_time(:millisecond) - since
  end

  defp begun(context, program) do
    port = program.(context)
    assert_receive {^port, {:data, {:eol, _line}}}, 60_000
    {port, System.monotonic_time(:millisecond)}
  end

  defp killed(context, program, moment) do
    {port, _since} = begun(context, program)
    {:os_pid, pid} = Port.info(port, :os_pid)
    Process.send_after(self(), {:kill, pid}, moment)
    status = ended(port)
    # The moment may have come after the end.
    receive do
      {:kill, ^pid} -> :ok
    after
      0 -> :ok
    end

    status
  end

  defp ended(port) do
    receive do
      {:kill, pid} ->
        System.cmd("kill", ["-9", "#{pid}"], stderr_to_stdout: true)
        ended(port)

      {^port, {:data, _line}} ->
        ended(port)

      {^port, {:exit_status, status}} ->
        status
    end
  end

  # By the same program, which is how a user's next attempt goes.
  defp heal(context, program) do
    if program == (&InstallProcess.start/1) do
      install(context)
    else
      if ended(program.(context)) == 0, do: {:ok, :healed}, else: {:error, :unhealed}
    end
  end
end
