defmodule Emily.Soak.HaltTest do
  use ExUnit.Case, async: true

  @moduletag :native
  @moduletag timeout: :infinity

  # Several processes keep MLX busy while the VM is told to end.
  @busy """
  {:ok, _} = Application.ensure_all_started(:emily)
  stream = Emily.Native.stream_new(:cpu)
  one = Emily.from_binary(:binary.copy(<<1.0::32-float-native>>, 1000), [1000], {:f, 32})
  parent = self()

  for _ <- 1..4 do
    spawn(fn ->
      Stream.repeatedly(fn ->
        chain = Enum.reduce(1..2000, one, fn _, x -> Emily.Native.op(stream, :sin, nil, [x]) end)
        Emily.eval(chain)
        send(parent, :computed)
      end)
      |> Stream.run()
    end)
  end

  for _ <- 1..8, do: receive(do: (:computed -> :ok))
  IO.puts("busy")
  """

  for {name, halt} <- [
        {"System.halt/1", "System.halt(7)"},
        {"System.stop/1", "System.stop(7); Process.sleep(:infinity)"}
      ],
      {tag, rounds} <- [brief: 4, soak: 100] do
    @tag tag
    test "#{name} ends the VM with its status while streams compute, #{rounds} times" do
      for _ <- 1..unquote(rounds) do
        assert {"busy\n", 7} = run(@busy <> unquote(halt))
      end
    end
  end

  defp run(code) do
    # Emily's own code and that of what it depends on.
    ebin = Path.join(Mix.Project.build_path(), "lib/*/ebin")
    System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)
  end
end
