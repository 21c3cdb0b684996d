defmodule Mix.Tasks.Emily.DoctorTest do
  # The task prints to standard output and reads the process environment.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias Emily.Doctor
  alias Mix.Tasks.Emily.Doctor, as: Task

  setup do
    before = System.get_env("NO_COLOR")

    on_exit(fn ->
      if before, do: System.put_env("NO_COLOR", before), else: System.delete_env("NO_COLOR")
    end)
  end

  # What this machine is decides the status; both are right as long as they agree.
  defp run(args) do
    test = self()

    output =
      capture_io(fn ->
        status =
          try do
            Task.run(args)
            0
          catch
            :exit, {:shutdown, status} -> status
          end

        send(test, {:status, status})
      end)

    assert_received {:status, status}
    {output, status}
  end

  test "--json prints the document and nothing else, and the exit status follows it" do
    {output, status} = run(["--json"])
    document = JSON.decode!(output)

    assert document["schema"] == 1
    assert document["emily"] == Mix.Project.config()[:version]
    assert Enum.map(document["checks"], & &1["id"]) == Enum.map(Doctor.checks(), &"#{&1.id}")
    assert status == if(document["status"] == "error", do: 1, else: 0)
    assert document["counts"] |> Map.values() |> Enum.sum() == length(document["checks"])
  end

  test "text has a line for each check, and the same exit status" do
    {output, status} = run([])

    for check <- Doctor.checks() do
      assert output =~ ~r/^  (ok     |warning|error  |skipped)  #{check.title}  /m
    end

    assert {_document, ^status} = run(["--json"])
  end

  test "refuses what it does not know, and names what exists" do
    for {args, got} <- [
          {["--jsn"], "--jsn"},
          {["--verbose", "--json"], "--verbose"},
          {["--json=maybe"], "--json=maybe"},
          {["cpu"], "cpu"},
          {["-x"], "-x"}
        ] do
      assert_raise Mix.Error, "expected no option but --json, got: #{got}", fn ->
        Task.run(args)
      end
    end
  end

  test "documents every check, and every key of the document" do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(Task)

    for check <- Doctor.checks(), do: assert(text =~ "`#{check.id}`")

    {output, _status} = run(["--json"])
    document = JSON.decode!(output)

    for key <- Map.keys(document) ++ Map.keys(hd(document["checks"])) do
      assert text =~ ~s("#{key}":)
      assert text =~ "`#{key}`"
    end
  end
end
