"""Every field of a run, its meaning and its default: the paper's value where the paper has one.

An experiment file (``configs/qwen2_5_coder_7b.py``) starts from ``get_config()`` here and changes
what it needs; a command line changes single fields (``--config.grpo.kl_coefficient=0``). Unknown
fields are refused. Fields marked (chosen) are this project's reading of a paper whose public text
leaves them open.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The paper's settings, without a policy or problems: an experiment file names those."""
    config = ConfigDict()

    # Every random choice of a run is folded from this seed, the step, the problem, role and sample.
    config.seed = 0
    # Training steps; the curriculum and the alternation of roles are laid out over them.
    config.steps = 150

    # ---- what is to be solved ------------------------------------------------------------------
    config.problems = ConfigDict()
    # "mbpp:PATH", "humaneval:PATH", "apps:PATH", "livecodebench:PATH", "codeforces:PATH",
    # "code_contests:PATH", "kodcode:PATH", "taco:PATH", "leetcode_dataset:PATH",
    # "verifiable_coding:PATH", "bigcodebench:PATH", "jsonl:PATH", "toy:train".
    config.problems.source = ""
    # The split of data sets that have one: "train", "test", "validation", "evaluation", a window of
    # months such as "2024-10..2025-02", "all"; docs/problems.md names each data set's.
    config.problems.split = "train"
    # Use only the first so many problems; 0 uses all.
    config.problems.limit = 0
    # Count malformed records and go on, instead of stopping at the first.
    config.problems.skip_malformed = False
    # Leave out problems whose prompts are longer than rollout.max_prompt_tokens and count them,
    # instead of refusing to start.
    config.problems.skip_overlong = False
    # Problems drawn per training step.
    config.problems.per_step = 32

    # ---- prompts and replies -------------------------------------------------------------------
    config.prompt = ConfigDict()
    # "one_shot" shows one worked example as an earlier turn, "zero_shot" only instructs,
    # "begun_reply" begins the reply with the fence (and `assert f(` for the Tester).
    config.prompt.style = "one_shot"
    # Up to so many asserts of one Tester reply form one test (chosen).
    config.prompt.asserts_per_test = 1
    # Let a Qwen3 policy think; the thought is cut off before parsing.
    config.prompt.thinking = False

    # ---- the offline rank filter ---------------------------------------------------------------
    config.prefilter = ConfigDict()
    # A problem is trained on when the rank of its first passing matrix is at least this.
    config.prefilter.delta = 2
    # Result file of launch/prefilter.py; empty: WORKDIR/prefilter.jsonl where it exists.
    config.prefilter.path = ""
    # Make the filter at the start of the run where there is no result yet.
    config.prefilter.make = False

    # ---- the model -----------------------------------------------------------------------------
    config.policy = ConfigDict()
    # "hf:HUB_ID_OR_DIRECTORY", "hf:HUB_ID@REVISION", "gguf:FILE" or "toy"; see docs/policies.md.
    config.policy.source = ""
    # Precision of the forward and backward pass; weights that are trained are always float32.
    config.policy.compute_dtype = "bfloat16"
    # Precision of the frozen weights: the reference policy's where the KL coefficient is not 0, and
    # with low-rank adapters always those that the adapters are added to.
    config.policy.reference_dtype = "bfloat16"
    # Attention of the training pass: "auto" picks cuDNN flash attention on GPUs, splash attention
    # on TPUs and XLA's elsewhere; or one of them by name: "cudnn", "splash", "xla".
    config.policy.attention = "auto"
    config.policy.lora = ConfigDict()
    # Rank of the low-rank adapters; 0 trains all weights. Adapters are never merged into weights of
    # lower precision: rollouts and evaluations compute with them as the training pass does.
    config.policy.lora.rank = 0
    config.policy.lora.alpha = 32.0
    # Comma-separated projections that carry adapters.
    config.policy.lora.targets = "query,key,value,output,gate,up,down"

    # ---- sampling ------------------------------------------------------------------------------
    config.rollout = ConfigDict()
    # Solutions and tests sampled per problem.
    config.rollout.solutions = 8
    config.rollout.tests = 8
    # Divides the logits, of the sampler and of the training pass alike: the policy that is trained
    # is the one that sampled. 0 samples greedily.
    config.rollout.temperature = 0.7
    config.rollout.top_p = 0.8
    # Keep only so many most probable tokens; 0 keeps all.
    config.rollout.top_k = 0
    config.rollout.max_new_tokens = 2048
    # Longer prompts are refused at the start of the run, with the problem's id, or left out:
    # problems.skip_overlong.
    config.rollout.max_prompt_tokens = 2048
    # Rows decoded together on one device at most; more samples than that take turns.
    config.rollout.rows = 256
    # Decode steps between two looks at who has finished.
    config.rollout.window = 32
    # When at most 16 rows are left: tokens drafted for each row and pass, from its prompt and the
    # other replies to it. Replies are the same with and without; 0 decodes token by token.
    config.rollout.draft_tokens = 0
    # Precision of the weights that are sampled from: "bfloat16", "float32" or "int8".
    config.rollout.dtype = "bfloat16"
    # Cap of the truncated importance weights that correct a sampler unlike the trained policy
    # (int8); 0 applies none.
    config.rollout.importance_cap = 0.0
    # "token", or "sequence": one weight for a whole reply, the product over its tokens.
    config.rollout.importance_level = "token"

    # ---- running programs ----------------------------------------------------------------------
    config.execution = ConfigDict()
    # "local" or "ray" (one pool per node of a Ray cluster).
    config.execution.backend = "local"
    # Worker processes; 0 takes one per processor.
    config.execution.workers = 0
    # Limits of one run: wall-clock seconds, memory, captured output, processes and threads.
    config.execution.seconds = 3.0
    config.execution.memory_mb = 1024
    config.execution.output_kb = 64
    config.execution.processes = 16
    # Installed packages that solutions and tests may import, for example ("numpy",).
    config.execution.packages = ()
    # Refuse to run below this level: "namespaces", "landlock" or "rlimits".
    config.execution.min_isolation = "namespaces"

    # ---- mutants -------------------------------------------------------------------------------
    config.mutation = ConfigDict()
    # At most so many mutants of a proxy solution, drawn at random by the seed; 0 takes all.
    config.mutation.limit = 0

    # ---- whom to believe -----------------------------------------------------------------------
    config.selector = ConfigDict()
    # "max_pass", "codet" or "b4".
    config.selector.name = "b4"
    # B4's priors; in dynamic B4 only where the calibration starts.
    config.selector.beta0 = 1e4
    config.selector.alpha_xy = 1e3
    # CodeT's weight of a group of equal solutions: "sqrt" (the released code) or "identity".
    config.selector.codet_weight = "sqrt"
    # Count equal solutions and equal tests once.
    config.selector.unique = False
    # A selection whose confidence is below this abstains; 0 abstains only without evidence.
    config.selector.min_confidence = 0.0
    config.selector.calibration = ConfigDict()
    # Dynamic B4: choose beta0 and alpha_xy anew before each step on the labelled problems.
    config.selector.calibration.enabled = False
    # Labelled problems taken out of the training set (|D_cal|), in every step anew.
    config.selector.calibration.problems = 10
    # Count them among problems.per_step instead of adding them to it (added: chosen).
    config.selector.calibration.within_step = False
    # The grid, as exponents of ten: 0..6 and 0..4 (chosen).
    config.selector.calibration.beta0_exponents = (0, 1, 2, 3, 4, 5, 6)
    config.selector.calibration.alpha_xy_exponents = (0, 1, 2, 3, 4)

    # ---- where rewards come from ---------------------------------------------------------------
    # Labels used for rewards: "none", "calibration" (the labelled problems train with supervised
    # rewards, the others with the selector's) or "oracle" (every problem is supervised).
    config.supervision = "none"
    # "coevolution" trains both roles; the baselines train only the Coder: "offline" against tests
    # made once by the initial policy, "online" against the step's own tests.
    config.method = "coevolution"

    config.reward = ConfigDict()
    # The Tester's combination of agreement and mutation: "additive" or "convex" (chosen).
    config.reward.tester_form = "additive"
    # Use the mutation term at all.
    config.reward.mutation = True
    # Count killed mutants only for a test that agrees with the consensus (chosen).
    config.reward.gated = True
    # Tests whose input is an example of the statement are "paid" like others, or "unpaid": they get
    # no reward.
    config.reward.copied_tests = "paid"
    # Added to the reward of a test that cannot be parsed (chosen).
    config.reward.format_penalty = -1.0
    # The mutation term's weight rises from low to high along half a cosine (end points chosen).
    config.reward.curriculum_low = 0.0
    config.reward.curriculum_high = 1.0
    # Multiply the advantages of a problem by its selection's confidence.
    config.reward.confidence_weighted = False

    # ---- the loss ------------------------------------------------------------------------------
    config.grpo = ConfigDict()
    # The policy ratio is clipped to [1 - clip_low, 1 + clip_high]; DAPO: 0.2 and 0.28.
    config.grpo.clip_low = 0.2
    config.grpo.clip_high = 0.2
    # "token", or "sequence": GSPO's length-normalised sequence ratio.
    config.grpo.ratio = "token"
    config.grpo.kl_coefficient = 0.001
    # "k1", "k2", "k3", or "k3_straight": the value of k3 with the unbiased gradient of k2.
    config.grpo.kl_estimator = "k3"
    # "token_mean": over all response tokens of the global batch; "sequence_mean": over each
    # response, then over responses; "constant_length": sums over max_new_tokens (Dr. GRPO).
    config.grpo.aggregation = "token_mean"
    # Divide a group's centred rewards by their standard deviation; Dr. GRPO does not.
    config.grpo.normalize_std = True
    # Leave out groups whose rewards are all equal (DAPO).
    config.grpo.drop_equal_groups = False
    # Replies cut at rollout.max_new_tokens: "keep" treats them as any other, "mask" does not train
    # on them, "penalize" lowers the reward of long replies by up to 1 (DAPO's soft punishment).
    config.grpo.truncated = "keep"
    # The share of max_new_tokens over which that penalty grows; DAPO: 4096 of 20480 tokens.
    config.grpo.overlong_share = 0.2
    config.grpo.entropy_coefficient = 0.0
    # Optimizer steps per training step: minibatches per pass over the batch, and passes.
    config.grpo.minibatches = 1
    config.grpo.epochs = 1

    config.optimizer = ConfigDict()
    # "adamw" or "adafactor" (factored second moment; of the fields below it reads learning_rate,
    # schedule, warmup_steps, weight_decay and gradient_clip).
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-6
    # "constant", or "linear" or "cosine" down to 0 at the last of config.steps.
    config.optimizer.schedule = "constant"
    # Optimizer steps over which the learning rate rises to its value.
    config.optimizer.warmup_steps = 0
    config.optimizer.beta1 = 0.9
    config.optimizer.beta2 = 0.999
    config.optimizer.epsilon = 1e-8
    config.optimizer.weight_decay = 0.01
    # Largest global norm of a gradient; 0 does not clip.
    config.optimizer.gradient_clip = 1.0
    # Precision of the first moment: "float32" or "bfloat16".
    config.optimizer.first_moment_dtype = "float32"

    # ---- the update's shapes and memory --------------------------------------------------------
    config.training = ConfigDict()
    # Padded sequence lengths (prompt and response together): one compiled program each.
    config.training.length_buckets = (512, 1024, 2048, 4096)
    # Tokens of one micro-batch on one device. Gradients are accumulated over micro-batches in
    # float32; between devices they travel in policy.compute_dtype.
    config.training.micro_batch_tokens = 16384
    # Compute what sequences have in common at their beginning once (prompts of a group, equal
    # replies), instead of a row for every sequence. The result is the same up to rounding.
    config.training.share_prefixes = True
    # What the backward pass recomputes: "full" (all of a layer), "minimal" (keeps matmul
    # outputs), "none".
    config.training.remat = "full"
    # Tokens whose logits exist at the same time; the [tokens, vocabulary] array never does.
    config.training.log_prob_chunk = 1024

    # ---- when a run stops ----------------------------------------------------------------------
    # Steps in a row after which a run that cannot learn stops; 0 never stops it.
    config.health = ConfigDict()
    # Every update was skipped: its gradient or its result was not finite.
    config.health.skipped_updates = 5
    # No reply of a role could be parsed.
    config.health.nothing_parsed = 10
    # Every solution ended in an error on every test, or the verifier gave no verdict.
    config.health.only_errors = 10
    # No sample had an advantage.
    config.health.no_gradient = 20

    # ---- where it lives ------------------------------------------------------------------------
    config.mesh = ConfigDict()
    # Devices along each axis; one of them may be -1: all that remain.
    config.mesh.data = 1
    config.mesh.fsdp = -1
    config.mesh.tensor = 1

    config.distributed = ConfigDict()
    # "none", "auto" (SLURM, GKE and Cloud TPU announce themselves) or "explicit" (fields below).
    config.distributed.mode = "none"
    config.distributed.coordinator = ""
    config.distributed.processes = 1
    config.distributed.process = 0
    # Seconds after which a host that others wait for is named and the run stops, to be resumed.
    config.distributed.timeout = 900

    # ---- what is kept --------------------------------------------------------------------------
    config.checkpoint = ConfigDict()
    # Save every so many steps (and at the end, and on SIGTERM).
    config.checkpoint.every = 1
    # The newest so many are kept, and the best one by the evaluation's average.
    config.checkpoint.keep = 2

    config.evaluation = ConfigDict()
    # Comma-separated problem sources measured before, during and after training; empty: none.
    config.evaluation.benchmarks = ""
    # Every so many training steps; 0: only before and after.
    config.evaluation.every = 0
    # Only the first so many problems of each; 0 uses all.
    config.evaluation.limit = 0
    config.evaluation.max_new_tokens = 1024

    config.logging = ConfigDict()
    # Also log to Weights & Biases, under this project name (extra: wandb); empty: do not.
    config.logging.wandb_project = ""
    # Rewrite report.html every so many steps; it is always written at the end. 0: only then.
    config.logging.report_every = 10
    # Keep events.jsonl (start, resume, checkpoint, stop, ... with host and time), and replace
    # heartbeat.json at every phase of a step.
    config.logging.events = True
    config.logging.heartbeat = True

    return config
