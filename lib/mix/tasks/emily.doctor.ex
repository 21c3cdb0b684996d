defmodule Mix.Tasks.Emily.Doctor do
  @shortdoc "Checks that Emily can work on this machine"

  @moduledoc """
  Checks everything that Emily needs of this machine, and says what to do about each problem.

      mix emily.doctor
      mix emily.doctor --json

  It works in a project that depends on Emily and in Emily's own checkout, also when the native
  library does not load. A check runs only if all that it needs has passed; otherwise it is
  skipped, and says what it waits for.

  The exit status is 1 if there is any error. Warnings do not count: with them Emily works, but
  not as well as it could.

  ## Options

    * `--json` - prints one JSON document and nothing else

  Text is coloured on a terminal, unless the variable `NO_COLOR` is set.

  ## The JSON document

      {
        "schema": 1,
        "emily": "0.8.0",
        "status": "error",
        "counts": {"ok": 5, "warning": 0, "error": 1, "skipped": 6},
        "checks": [
          {
            "id": "files",
            "title": "Installed files",
            "status": "error",
            "message": "not as released: 1 of 10 files in priv/",
            "details": [{"label": "libmlx.so", "value": "missing"}],
            "next": "mix compile.emily --force",
            "needs": ["selection"]
          }
        ]
      }

    * `schema` - changes when a reader of the old form could be misled; new keys, new checks and
      other texts do not change it
    * `emily` - the version of the package
    * `status` - the worst that was found: `ok`, `warning` or `error`
    * `counts` - how many checks ended with each status
    * `checks` - every check, in the order in which they ran:
      * `id` - its name, for programs: `runtime`, `selection`, `cache`, `files`, `signature`,
        `floors`, `libraries`, `load`, `devices`, `smoke`, `backend`, `blas`, `fusion`
      * `title`, `message` - what the text shows
      * `status` - `ok`, `warning`, `error` or `skipped`
      * `details` - facts about what was found, often none
      * `next` - what to do, mostly a command; `null` unless the status is `warning` or `error`
      * `needs` - the checks that must have passed for this one to run

  ## When Mix stops before the doctor

  Mix compiles what is not compiled yet before it finds this task. Where that fails, because Emily
  could not be installed, start the doctor without it:

      elixir -pa _build/dev/lib/emily/ebin -S mix emily.doctor

  What Mix compiles first it also prints about. For a JSON document alone, run `mix deps.compile`
  before, or start the doctor as above.
  """

  use Mix.Task

  alias Emily.Doctor
  alias Emily.Doctor.{Document, Report, Text}

  @switches [json: :boolean]

  @impl Mix.Task
  def run(args) do
    options = parse!(args)

    # Mix has loaded Emily, since it found this task. Nothing else is compiled, configured or
    # started here: a project in trouble is when the doctor is called.
    report = quietly(fn -> Doctor.run() end)

    if options[:json] do
      IO.puts(Document.render(report))
    else
      IO.write(Text.render(report, colour: colour?()))
    end

    if Report.exit_status(report) != 0, do: exit({:shutdown, Report.exit_status(report)})
  end

  defp parse!(args) do
    case OptionParser.parse(args, strict: @switches) do
      {options, [], []} ->
        options

      {_options, rest, invalid} ->
        got = Enum.map(invalid, &shown/1) ++ rest
        Mix.raise("expected no option but --json, got: #{Enum.join(got, " ")}")
    end
  end

  defp shown({name, nil}), do: name
  defp shown({name, value}), do: "#{name}=#{value}"

  defp colour?, do: IO.ANSI.enabled?() and System.get_env("NO_COLOR") in [nil, ""]

  # The report tells why a library does not load; what the VM logs about the same would mix with
  # it, and the default handler writes to standard output.
  defp quietly(fun) do
    filter = :emily_doctor
    :ok = :logger.add_primary_filter(filter, {fn _event, _extra -> :stop end, nil})

    try do
      fun.()
    after
      :logger.remove_primary_filter(filter)
    end
  end
end
