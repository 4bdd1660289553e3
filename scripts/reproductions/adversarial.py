"""Digits out of noise in PyTorch: the recipes dcgan and wgan-gp. The images go to a file for `chainrule score`.

    python scripts/reproductions/adversarial.py wgan-gp --out images.npy [--count 10000] [--seed 0]
"""
from common import *


class Reshape(nn.Module):
    def forward(self, x):
        return x.view(len(x), -1, 7, 7)


def generator(noise, wide):
    return nn.Sequential(
        nn.Linear(noise, wide * 49, bias=False), Reshape(), nn.BatchNorm2d(wide), nn.ReLU(),
        nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(wide // 2), nn.ReLU(),
        nn.ConvTranspose2d(wide // 2, 1, 4, 2, 1), nn.Tanh())


def critic(wide, norm):
    middle = [nn.Conv2d(wide, 2 * wide, 4, 2, 1, bias=not norm), *([nn.BatchNorm2d(2 * wide)] if norm else [])]
    return nn.Sequential(
        nn.Conv2d(1, wide, 4, 2, 1), nn.LeakyReLU(0.2), *middle, nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(98 * wide, 1))


# row: (noise, width of the generator, of the critic, its steps, rate, betas, steps in all)
ROWS = {"dcgan": (100, 128, 64, 1, 2e-4, (0.5, 0.999), 4 * 937), "wgan-gp": (64, 64, 32, 5, 2e-4, (0.5, 0.9), 3000)}
BATCH = 64


def penalty(judge, real, made):
    part = torch.rand(len(real), 1, 1, 1)
    between = (real * part + made * (1 - part)).requires_grad_()
    slope, = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    return ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


def main():
    def more(parser):
        parser.add_argument("--out", help="where 10,000 images are written, as bytes")
        parser.add_argument("--count", type=int, default=10_000)
    a = arguments(__doc__, list(ROWS), more)
    noise, wide, narrow, rounds, rate, betas, total = ROWS[a.row]
    logistic = a.row == "dcgan"
    make, judge = generator(noise, wide), critic(narrow, norm=logistic)
    if logistic:
        kaiming(make, lambda w: nn.init.normal_(w, std=0.02)), kaiming(judge, lambda w: nn.init.normal_(w, std=0.02))
    of_make, of_judge = (torch.optim.Adam(net.parameters(), rate, betas) for net in (make, judge))
    images = mnist(a.data)[0][0] * 2 - 1
    places = batches(len(images), BATCH * rounds, 1 + total * BATCH * rounds // len(images))
    for t, at in zip(range(a.steps or total), places):
        for real in images[at].split(BATCH):
            made = make(torch.randn(BATCH, noise))
            truth, lie = judge(real), judge(made.detach())
            if logistic:
                loss = F.softplus(-truth).mean() + F.softplus(lie).mean()
            else:
                loss = lie.mean() - truth.mean() + 10 * penalty(judge, real, made.detach())
            of_judge.zero_grad()
            loss.backward()
            of_judge.step()
        said = judge(made)
        worse = F.softplus(-said).mean() if logistic else -said.mean()
        of_make.zero_grad()
        worse.backward()
        of_make.step()
        if (t + 1) % 500 == 0:
            say(f"step {t + 1} of {total}: discriminator {loss.item():.4f}, generator {worse.item():.4f}")
    make.eval()
    if a.out:
        with torch.no_grad():
            drawn = torch.cat([make(torch.randn(min(500, a.count - at), noise)) for at in range(0, a.count, 500)])
        np.save(a.out, (drawn / 2 + 0.5).clamp(0, 1).numpy())
    finish(discriminator_loss=loss.item(), generator_loss=worse.item(), steps=a.steps or total)


main()
