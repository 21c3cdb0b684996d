defmodule Emily.Artifact.InterruptionTest do
  use Emily.Test.InstallCase, async: true

  import Emily.Test.InstallState
  alias Emily.Test.InstallProcess

  describe "SIGKILL" do
    @describetag timeout: 300_000

    test "at any event of an upgrade leaves the old state or the new one, and heals", context do
      # What stood there before has a file more, and others of another size.
      old = Map.put(ReleaseFactory.files("of old"), "THIRD-PARTY", "MIT too")
      republish(context, ReleaseFactory.archive(context.artifact, old))
      assert {:ok, _manifest} = install(context)
      template = keep(context)

      new = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(2_000_000))
      republish(context, ReleaseFactory.archive(context.artifact, new))
      states = states(context, template, old, new)

      # Nothing changes for anyone before the decision, and everything at it.
      assert Enum.dedup(states) == [:old, :new]
    end

    test "at any event of a first install leaves nothing or the new state, and heals", context do
      template = keep(context)
      new = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(2_000_000))
      republish(context, ReleaseFactory.archive(context.artifact, new))
      assert Enum.dedup(states(context, template, %{}, new)) == [:old, :new]
    end
  end

  # The state that a kill at each event leaves behind.
  defp states(context, template, old, new) do
    {output, 0} = InstallProcess.run(context)

    {progress, steps} =
      output |> String.split("\n", trim: true) |> Enum.split_with(&(&1 =~ ":progress"))

    assert "{:step, :decided}" in steps
    assert progress != []
    # The announcement of the download, then the bytes, then what is done with them.
    [announcement | steps] = steps

    for event <- [announcement, "1", "700000", "1900000"] ++ steps do
      restore(context, template)
      {_output, status} = InstallProcess.run(context, kill_at: event)
      assert status == 137, "expected a kill at #{event}, got status #{status}"

      state = state_left(context, old, new, event)
      nothing_unverified(context, [old, new])

      assert {:ok, _manifest} = install(context)
      assert installed(context) == new
      assert leftovers(context) == []
      state
    end
  end

  describe "two installs at once on one cache" do
    test "download once; the second waits, and says on what", context do
      test = self()

      # The archive is served when both are known to be at work.
      hold = fn _request ->
        send(test, {:asked, self()})

        receive do
          :go -> :ok
        end
      end

      script(context, %{context.artifact.asset => [{:call, hold}]})
      other = Path.join(context.dir, "other_priv")

      first = InstallProcess.start(context)
      assert_receive {:asked, request}, 30_000
      {:os_pid, pid} = Port.info(first, :os_pid)

      second = InstallProcess.start(context, priv: other)
      assert_receive {^second, {:data, {:eol, "{:info, \"Waiting for process " <> rest}}}, 30_000
      asset = context.artifact.asset

      assert rest ==
               "#{pid}, which holds the lock on #{asset}: #{context.cache}/v1/locks/#{asset}.1\"}"

      send(request, :go)
      assert_receive {^first, {:exit_status, 0}}, 30_000
      assert_receive {^second, {:exit_status, 0}}, 30_000
      assert HttpServer.count(context.server, context.artifact.asset) == 1
      assert installed(context) == context.files
      assert installed(%{context | priv: other}) == context.files
      assert leftovers(context) == []
    end
  end
end
