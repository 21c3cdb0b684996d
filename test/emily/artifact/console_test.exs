defmodule Emily.Artifact.ConsoleTest do
  use ExUnit.Case, async: true
  doctest Emily.Artifact.Console

  alias Emily.Artifact.Console

  defp console(options) do
    test = self()
    say = fn kind -> &send(test, {kind, &1}) end
    Console.new([info: say.(:info), warning: say.(:warning)] ++ options)
  end

  test "says sentences, and nothing of steps" do
    console = console(draw: nil)
    Console.show(console, {:info, "hello"})
    Console.show(console, {:warning, "careful"})
    Console.show(console, {:step, :decided})
    Console.show(console, {:progress, 1, 2})
    assert_received {:info, "hello"}
    assert_received {:warning, "careful"}
    assert {:messages, []} = Process.info(self(), :messages)
  end

  test "draws a bar ten times a second, and ends it" do
    {:ok, clock} = Agent.start_link(fn -> 1_000 end)
    test = self()
    console = console(draw: &send(test, {:drawn, &1}), clock: fn -> Agent.get(clock, & &1) end)

    Console.show(console, {:progress, 2_500_000, 10_000_000})
    assert_received {:drawn, "\r  [=======                       ]  25 %  2.5 of 10.0 MB "}

    Agent.update(clock, &(&1 + 99))
    Console.show(console, {:progress, 5_000_000, 10_000_000})
    refute_received {:drawn, _bar}

    Agent.update(clock, &(&1 + 1))
    Console.show(console, {:progress, 5_000_000, 10_000_000})
    assert_received {:drawn, "\r  [===============               ]  50 %  5.0 of 10.0 MB "}

    Console.show(console, {:progress, 10_000_000, 10_000_000})
    assert_received {:drawn, "\r  [==============================] 100 %  10.0 of 10.0 MB "}
    assert_received {:drawn, "\n"}
    Console.end_bar(console)
    refute_received {:drawn, _line}
  end

  test "draws on a terminal only" do
    assert is_function(Console.terminal(terminal: true, stdout: true), 1)
    assert Console.terminal(terminal: true, stdout: false) == nil
    assert Console.terminal(encoding: :unicode) == nil
    assert Console.terminal({:error, :enotsup}) == nil
  end

  test "draws a count where nobody says how much is to come" do
    test = self()
    console = console(draw: &send(test, {:drawn, &1}), clock: fn -> 1_000 end)
    Console.show(console, {:progress, 2_500_000, nil})
    assert_received {:drawn, "\r  2.5 MB "}
  end

  test "ends a bar that stops in the middle before it says something" do
    test = self()
    console = console(draw: &send(test, {:drawn, &1}), clock: fn -> 1_000 end)
    Console.show(console, {:progress, 1, 2})
    Console.show(console, {:info, "the connection broke"})
    Console.show(console, {:info, "again"})
    {:messages, messages} = Process.info(self(), :messages)

    assert [
             {:drawn, "\r" <> _bar},
             {:drawn, "\n"},
             {:info, "the connection broke"},
             {:info, "again"}
           ] = messages
  end
end
